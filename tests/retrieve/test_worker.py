"""A reader that hangs, dies or swells costs its own file alone."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.retrieve.documents import Document, Limits, Skipped, read, read_folder, worker

make: Any = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "files.py")))
pytest.importorskip("pypdf")


def endless_pdf(path: Path) -> Path:
    """A page of 40 MB of drawing, which takes its reader minutes."""
    return make.make_pdf(path, ") Tj T* (".join("word" for _ in range(1_500_000)))  # type: ignore[no-any-return]


def test_a_document_from_the_worker_equals_one_read_here(tmp_path: Path) -> None:
    path = make.make_pdf(tmp_path / "a.pdf", "One \\351 page", "Two")
    with worker.Reader() as apart:
        assert apart.read(path) == read(path)


def test_a_reader_over_its_time_is_stopped_and_the_rest_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "GRACE", 0.0)
    endless_pdf(tmp_path / "a.pdf")
    make.make_pdf(tmp_path / "b.pdf", "Fine.")
    slow, good = read_folder(tmp_path, Limits(seconds=2.5))
    assert isinstance(slow, Skipped) and "took over" in slow.reason
    assert isinstance(good, Document) and good.text == "Fine."


@pytest.mark.skipif(sys.platform != "linux", reason="the address space can be limited on Linux")
def test_a_reader_over_its_memory_is_one_line(tmp_path: Path) -> None:
    make.make_docx(tmp_path / "a.docx", "<w:p><w:r><w:t>" + "x" * (60 << 20) + "</w:t></w:r></w:p>")
    make.make_pdf(tmp_path / "b.pdf", "Fine.")
    large, good = read_folder(tmp_path, Limits(memory_bytes=200 << 20))
    assert isinstance(large, Skipped) and "memory" in large.reason
    assert isinstance(good, Document)


def test_a_reader_that_dies_is_replaced(tmp_path: Path) -> None:
    path = make.make_pdf(tmp_path / "a.pdf", "Fine.")
    with worker.Reader() as apart:
        assert apart.read(path).text == "Fine."
        assert apart._process is not None
        apart._process.kill()
        apart._process.wait()
        assert apart.read(path).text == "Fine."


def test_an_error_keeps_its_words(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"no pdf")
    with worker.Reader() as apart, pytest.raises(OctavoError, match="broken"):
        apart.read(tmp_path / "a.pdf")


def test_a_module_in_the_folder_that_is_read_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("from pathlib import Path\nPath('run').touch()\n")
    make.make_pdf(tmp_path / "a.pdf", "Fine.")
    monkeypatch.chdir(tmp_path)
    assert [type(item) for item in read_folder(".")] == [Document, Document]
    assert not (tmp_path / "run").exists()


def test_large_plain_files_are_read_apart_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words " * 300_000)
    with worker.Reader() as apart:
        assert apart.read(tmp_path / "a.txt") == read(tmp_path / "a.txt")
        assert apart._process is not None
