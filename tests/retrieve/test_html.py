"""A web page's main text is read, its menus are not, and a missing library is one clear line."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from octavo.errors import FormatError, MissingDependencyError
from octavo.retrieve.documents import Limits, Skipped, read, read_folder
from octavo.retrieve.documents.formats import html

PAGE = """<html><head><title>Ducks</title><meta charset="{charset}"><script>var menu = 1</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/b">Products</a></li></ul></nav>
<article><h1>Ducks of the lake</h1><p>A male duck is called a <b>drake</b>, and it swims in the lake all day long.</p>
<h2>Food</h2><p>Ducks eat leaves and berries, and sometimes a café crumb that a visitor has left on the shore.</p>
<ul><li>leaves of ash</li><li>berries</li></ul>
<table><tr><th>Food</th><th>Calories</th></tr><tr><td>Leaves</td><td>50</td></tr></table></article>
<footer>Copyright, imprint, cookies</footer></body></html>"""


def test_the_main_text_has_headings_lists_and_tables(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    for charset in ("utf-8", "iso-8859-1"):
        path = tmp_path / "a.html"
        path.write_bytes(PAGE.format(charset=charset).encode(charset))
        document = read(path)
        assert "A male duck is called a drake, and it swims" in document.text
        assert "a café crumb" in document.text
        assert "- leaves of ash\n- berries" in document.text and "Leaves | 50" in document.text
        assert not any(word in document.text for word in ("Products", "imprint", "var menu"))
        assert "Food" in document.headings_at(document.text.index("Ducks eat"))
        assert [table.label for table in document.tables_in(0, len(document.text))] == ["Food | Calories"]


def test_a_page_without_main_text_is_read_whole_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    (tmp_path / "a.html").write_text("<html><body></body></html>")
    with pytest.raises(FormatError):
        read(tmp_path / "a.html")


def test_garbled_pages_never_give_a_bare_exception(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    chance = random.Random(3)
    source = PAGE.encode()
    for _ in range(25):
        start, length = chance.randrange(len(source)), chance.randrange(200)
        (tmp_path / "a.html").write_bytes(source[:start] + chance.randbytes(9) + source[start + length :])
        try:
            assert read(tmp_path / "a.html").text.strip()
        except FormatError as error:
            assert str(error) and "\n" not in str(error)


def test_without_the_library_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    (tmp_path / "a.html").write_text(PAGE)
    with pytest.raises(MissingDependencyError, match=r"pip install 'octavo\[docs\]'"):
        html.read(tmp_path / "a.html", Limits())


def test_a_folder_of_pages_is_read(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b.htm").write_bytes(b"")
    page, empty = read_folder(tmp_path)
    assert not isinstance(page, Skipped) and page.title
    assert isinstance(empty, Skipped) and "\n" not in empty.reason
