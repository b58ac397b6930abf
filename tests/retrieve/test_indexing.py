"""A folder into a store: only what changed, whole documents, and exact places."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.retrieve.indexing import Report, index_folder
from octavo.retrieve.library import drop, index_path, open_library
from octavo.retrieve.passages import Splitting
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import VectorSpace

INDEXER = """
import sys
from pathlib import Path
from octavo.retrieve.indexing import index_folder
from octavo.retrieve.stores.sqlite import SqliteStore
class Told(SqliteStore):
    def put(self, source, places, vectors):
        super().put(source, places, vectors)
        print(source.name, flush=True)
index_folder(Path(sys.argv[1]), Told(Path(sys.argv[2])))
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "duck.md").write_text("# Ducks\n\nDucks swim.\n\n## Food\n\nThey eat weed — 水草.\n")
    (folder / "deep/goose.txt").write_text("Geese fly south.\n")
    return folder


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.removed, report.unchanged


def test_only_what_changed_is_read_and_embedded_again(docs: Path, encoder: Any) -> None:
    store = SqliteStore(None, VectorSpace("words", encoder.dimensions))
    assert counts(index_folder(docs, store, encoder)) == (2, 0, 0, 0)
    before = encoder.embedded
    assert counts(index_folder(docs, store, encoder)) == (0, 0, 0, 2)
    assert encoder.embedded == before
    (docs / "duck.md").write_text("# Ducks\n\nDucks dive.\n")
    (docs / "deep/goose.txt").unlink()
    (docs / "swan.txt").write_text("Swans hiss.")
    os.utime(docs / "swan.txt", (0, 0))
    assert counts(index_folder(docs, store, encoder)) == (1, 1, 1, 0)
    assert sorted(store.listing()) == ["duck.md", "swan.txt"]
    assert store.search_words("swim geese", 5) == []
    store.check()
    store.close()


def test_another_splitting_cuts_every_document_anew(docs: Path) -> None:
    store = SqliteStore(None)
    index_folder(docs, store, splitting=Splitting(200, 0))
    assert counts(index_folder(docs, store, splitting=Splitting(20, 5))) == (0, 2, 0, 0)
    assert store.listing()["duck.md"].passages > 2
    store.close()


def test_a_passage_knows_its_exact_place_and_what_it_stands_under(docs: Path) -> None:
    store = SqliteStore(None)
    index_folder(docs, store, splitting=Splitting(30, 0))
    (hit,) = store.search_words("weed", 5)
    passage = hit.passage
    text = (docs / "duck.md").read_text()
    assert text[passage.place.start : passage.place.end] == passage.text
    assert "水草" in passage.text and passage.place.line == 7
    assert passage.place.context == "Ducks > Food"
    store.close()


def test_what_cannot_be_read_is_a_line_and_the_rest_is_indexed(docs: Path) -> None:
    (docs / "bad.bin").write_bytes(b"\0\1\2" * 100)
    store = SqliteStore(None)
    report = index_folder(docs, store)
    assert counts(report) == (2, 0, 0, 0)
    assert ["bad.bin" in str(skipped) for skipped in report.skipped] == [True]
    store.close()


def test_a_document_that_can_no_longer_be_read_is_found_no_more(docs: Path) -> None:
    store = SqliteStore(None)
    index_folder(docs, store)
    (docs / "deep/goose.txt").write_bytes(b"\0\1\2" * 100)
    assert counts(index_folder(docs, store)) == (0, 0, 1, 1)
    assert store.search_words("geese", 5) == []
    store.close()


def test_a_document_that_the_encoder_does_not_know_is_searched_by_words(docs: Path, encoder: Any) -> None:
    (docs / "zh.txt").write_text("玄德曰：此人名張飛。")
    store = SqliteStore(None, VectorSpace("words", encoder.dimensions))
    report = index_folder(docs, store, encoder)
    assert report.notes == ("zh.txt: the encoder does not know its words, so it is searched by words alone",)
    assert [hit.passage.document for hit in store.search_words("張飛", 5)] == ["zh.txt"]
    for name in "vwxyz":
        (docs / f"{name}.txt").write_text("雲長曰：" + name)
    (note,) = index_folder(docs, store, encoder).notes
    assert note.startswith(
        "v.txt, w.txt, x.txt and 2 more: the encoder does not know their words, so they are searched"
    )
    store.close()


def test_a_killed_indexing_keeps_what_it_stored_and_goes_on(tmp_path: Path) -> None:
    docs, index = tmp_path / "docs", tmp_path / "index.sqlite3"
    docs.mkdir()
    for number in range(600):
        (docs / f"{number:03}.txt").write_text(f"document number {number} " * 100)
    indexer = subprocess.Popen(
        [sys.executable, "-c", INDEXER, str(docs), str(index)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert indexer.stdout is not None
    told = [indexer.stdout.readline().strip() for _ in range(100)]
    os.kill(indexer.pid, signal.SIGKILL)
    told += [line.strip() for line in indexer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    indexer.wait()
    indexer.stdout.close()
    store = SqliteStore(index)
    store.check()
    stored = store.listing()
    assert set(told) <= set(stored) and len(stored) < 600
    assert counts(index_folder(docs, store)) == (600 - len(stored), 0, 0, len(stored))
    assert len(store.listing()) == 600
    store.check()
    store.close()


def test_a_store_and_its_encoder_belong_together(docs: Path, encoder: Any, tmp_path: Path) -> None:
    store = SqliteStore(None)
    with pytest.raises(OctavoError, match="with their encoder"):
        index_folder(docs, store, encoder)
    with pytest.raises(OctavoError, match="there is no folder"):
        index_folder(tmp_path / "nowhere", store)
    store.close()


def test_a_library_remembers_its_encoder_and_how_it_cuts(docs: Path, encoder: Any, tmp_path: Path) -> None:
    asked: list[str] = []

    def load(reference: str) -> Any:
        asked.append(reference)
        return encoder

    index = str(tmp_path / "i.sqlite3")
    library = open_library(docs, load, index=index, encoder="toy")
    library.update(chunk_size=200, overlap=0)
    library.close()
    again = open_library(docs, load, index=index)
    assert counts(again.update()) == (0, 0, 0, 2)
    assert [hit.passage.document for hit in again.search.find("geese", 1)] == ["deep/goose.txt"]
    again.close()
    assert asked == ["toy", "toy"]
    with pytest.raises(OctavoError, match=r"was made with the encoder toy, not other.*--rebuild"):
        open_library(docs, load, index=index, encoder="other")
    rebuilt = open_library(docs, load, index=index, encoder="none", rebuild=True)
    assert rebuilt.encoder is None and rebuilt.store.listing() == {}
    rebuilt.close()


def test_without_an_encoder_at_hand_a_library_has_words_and_says_why(
    docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))

    def load(reference: str) -> Any:
        raise OctavoError(f"no model {reference!r}")

    library = open_library(docs, load)
    assert library.note is not None and "no model 'all-minilm-l6-v2'" in library.note
    library.update()
    assert library.search.find("geese", 1)
    library.close()
    assert index_path(docs).exists() and not list(docs.glob("*.sqlite3*"))
    with pytest.raises(OctavoError, match="no model 'mine'"):
        open_library(docs, load, index=str(tmp_path / "x"), encoder="mine")


def test_rebuilding_never_deletes_a_file_that_is_no_index(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    with pytest.raises(OctavoError, match="not an index"):
        drop(precious)
    assert precious.read_text() == "years of work"
