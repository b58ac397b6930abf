"""Finding, reading and splitting a text."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from octavo.errors import FormatError, OctavoError
from octavo.train.corpus import find_text, read_corpus
from octavo.train.recipe import DataSettings


def test_a_text_is_found_beside_the_recipe_first_and_then_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes, here = tmp_path / "recipes", tmp_path / "here"
    recipes.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "a.txt").write_text("here")
    assert find_text(DataSettings(path="a.txt"), recipes).resolve() == here / "a.txt"
    (recipes / "a.txt").write_text("beside")
    assert find_text(DataSettings(path="a.txt"), recipes) == recipes / "a.txt"
    assert find_text(DataSettings(path=str(here / "a.txt")), recipes) == here / "a.txt"


def test_a_missing_text_is_one_line_that_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(OctavoError) as caught:
        find_text(DataSettings(path="no.txt", source="https://example.org/no.txt"), tmp_path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in (str(tmp_path / "no.txt"), "https://example.org/no.txt", "--data FILE"):
        assert part in sentence


def test_one_document_is_split_by_characters_and_many_by_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0123456789" * 10, encoding="utf-8")
    corpus = read_corpus(path, DataSettings(path="a.txt"))
    assert (len(corpus.training[0]), len(corpus.validation[0])) == (90, 10)
    path.write_text("<end>".join(f"document {i}" for i in range(10)) + "<end>\n", encoding="utf-8")
    corpus = read_corpus(path, DataSettings(path="a.txt", document_separator="<end>", validation_fraction=0.2))
    assert corpus.training == tuple(f"document {i}" for i in range(8))
    assert corpus.validation == ("document 8", "document 9")
    assert read_corpus(path, DataSettings(path="a.txt", validation_fraction=0)).validation == ()


def test_gzip_gives_the_same_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("naïve text " * 30, encoding="utf-8")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress((tmp_path / "a.txt").read_bytes()))
    plain, packed = (read_corpus(tmp_path / name, DataSettings(path=name)) for name in ("a.txt", "a.txt.gz"))
    assert plain == packed


@pytest.mark.parametrize(
    ("content", "settings", "kind", "match"),
    [
        (b"ab\xff", {}, FormatError, "not UTF-8 at byte 2"),
        (b"", {}, OctavoError, "too few to train on"),
        (b"abc", {}, OctavoError, "under two characters"),
        (b"abc" * 99, {"sha256": "0" * 64}, OctavoError, r"data\.sha256 asks for 0000"),
    ],
)
def test_a_text_that_cannot_serve_is_refused(
    tmp_path: Path, content: bytes, settings: dict[str, str], kind: type[OctavoError], match: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(kind, match=match):
        read_corpus(tmp_path / "a.txt", DataSettings(path="a.txt", **settings))  # type: ignore[arg-type]


def test_a_truncated_gzip_is_refused_and_a_right_checksum_is_not(tmp_path: Path) -> None:
    content = b"some text " * 50
    (tmp_path / "a.txt").write_bytes(content)
    read_corpus(tmp_path / "a.txt", DataSettings(path="a.txt", sha256=hashlib.sha256(content).hexdigest()))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(FormatError, match="not a whole gzip file"):
        read_corpus(tmp_path / "b.txt.gz", DataSettings(path="b.txt.gz"))
