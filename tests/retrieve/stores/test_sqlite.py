"""The embedded store: its file, other processes, crashes, and what is left of what was deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from octavo.errors import OctavoError
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Place, Source, VectorSpace

SPACE = VectorSpace("toy", 4)
WRITER = """
import sys
from pathlib import Path
import numpy as np
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Place, Source, VectorSpace
store = SqliteStore(Path(sys.argv[1]), VectorSpace("toy", 4))
for number in range(100000):
    text = f"document {number} " * 50
    places = [Place(at, at + 20) for at in range(0, len(text) - 20, 20)]
    store.put(Source(f"d{number % 400}", text, str(number)), places, np.full((len(places), 4), number, np.float32))
    print(number, flush=True)
"""


def put(store: SqliteStore, name: str, text: str) -> None:
    vectors = None if store.space is None else np.ones((1, store.space.dimensions), np.float32)
    store.put(Source(name, text, "1"), [Place(0, len(text))], vectors)


@pytest.mark.parametrize("after", [1, 40, 450])
def test_a_killed_writer_loses_nothing_that_it_was_told_is_stored(tmp_path: Path, after: int) -> None:
    path = tmp_path / "index.sqlite3"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) == after:
            os.kill(writer.pid, signal.SIGKILL)
            break
    last = max([after, *(int(line) for line in writer.stdout if line.strip())])
    writer.wait()
    writer.stdout.close()
    store = SqliteStore(path)
    store.check()
    listing = store.listing()
    for number in range(max(0, last - 399), last + 1):
        assert int(listing[f"d{number % 400}"].fingerprint) >= number
    found = store.search_words(f"document {last}", 1)[0].passage
    assert store.text(found.document)[found.place.start : found.place.end] == found.text
    store.close()


def test_nothing_of_a_deleted_document_is_left_in_the_files(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "index.sqlite3", None)
    put(store, "kept", "kingfisher")
    put(store, "secret", "the password is xylophonecrocodile " * 200)
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"xylophonecrocodil" in held
    store.delete(["secret"])
    store.compact()
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"xylophone" not in left and b"secret" not in left
    assert len(store.search_words("kingfisher", 5)) == 1
    store.check()
    store.close()


@pytest.fixture(scope="module")
def ducks() -> Iterator[SqliteStore]:
    """A store of one document."""
    store = SqliteStore(None)
    put(store, "a", "duck")
    yield store
    store.close()


@given(query=some.text(max_size=60))
def test_any_text_can_be_asked(ducks: SqliteStore, query: str) -> None:
    hits = ducks.search_words(query, 3)
    assert len(hits) <= 1 and all(hit.passage.text == "duck" for hit in hits)


@given(
    some.lists(some.tuples(some.sampled_from("abc"), some.text(some.characters(codec="utf-8"), min_size=1)), max_size=8)
)
def test_words_and_passages_agree_after_any_changes(changes: list[tuple[str, str]]) -> None:
    store = SqliteStore(None, SPACE)
    for name, text in changes:
        if text.startswith("-"):
            store.delete([name])
        else:
            put(store, name, text)
            assert store.text(name) == text
    store.check()
    store.delete("abc")
    store.check()
    assert store.listing() == {}
    store.close()


def test_an_index_of_another_encoder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite3"
    SqliteStore(path, SPACE).close()
    with pytest.raises(
        OctavoError, match=r"made with toy \(4 dimensions\), not with other \(4 dimensions\).*--rebuild"
    ):
        SqliteStore(path, VectorSpace("other", 4))
    opened = SqliteStore(path)
    assert opened.space == SPACE
    opened.close()


def test_an_index_without_vectors_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "index.sqlite3")
    put(store, "a", "duck")
    assert store.space is None
    with pytest.raises(OctavoError, match="keeps no vectors"):
        store.search_vector(np.ones(4, np.float32), 1)
    store.close()
    with pytest.raises(OctavoError, match="made for word search alone, not with toy"):
        SqliteStore(tmp_path / "index.sqlite3", SPACE)


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(OctavoError, match="cannot be opened"):
        SqliteStore(path)
    assert path.read_text().startswith("not a database")


def test_a_snapshot_is_a_whole_index(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "index.sqlite3", SPACE)
    put(store, "a", "duck")
    store.snapshot(tmp_path / "copy.sqlite3")
    put(store, "b", "duck")
    with pytest.raises(OctavoError, match="there already"):
        store.snapshot(tmp_path / "copy.sqlite3")
    copy = SqliteStore(tmp_path / "copy.sqlite3")
    copy.check()
    assert [hit.passage.document for hit in copy.search_words("duck", 5)] == ["a"]
    copy.close()
    store.close()


def test_searches_go_on_while_documents_are_stored(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "index.sqlite3", SPACE)
    put(store, "a", "duck")
    failures: list[BaseException] = []

    def search() -> None:
        try:
            for _ in range(50):
                assert store.search_words("duck", 100)
                assert store.search_vector(np.ones(4, np.float32), 100)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(50):
        put(store, str(number), "duck")
    for reader in readers:
        reader.join()
    assert failures == []
    store.close()
