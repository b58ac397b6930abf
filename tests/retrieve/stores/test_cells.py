"""Many vectors in cells: found nearly as by comparing all, exactly when asked; kept, added to and deleted as others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from octavo.retrieve.stores import cells, scan
from octavo.retrieve.stores.cells import number_of_cells
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Place, Source, Vectors, VectorSpace

SPACE = VectorSpace("toy", 48)
DOCUMENTS, PASSAGES = 60, 100


def clustered(count: int, seed: int) -> Vectors:
    """(count, 48) unit vectors around 150 topics of unequal size."""
    topics = np.random.default_rng(5).standard_normal((150, 48))
    random = np.random.default_rng(seed)
    sizes = 1 / np.arange(1, 151)
    found = topics[random.choice(150, count, p=sizes / sizes.sum())] + 0.7 * random.standard_normal((count, 48))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def put(store: SqliteStore, name: str, vectors: Vectors) -> None:
    text = "x" * len(vectors)
    store.put(Source(name, text, "1"), [Place(at, at + 1) for at in range(len(vectors))], vectors)


@pytest.fixture(params=["float32", "int8"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of 6,000 vectors that lie in cells, as a file."""
    monkeypatch.setattr(cells, "WORTHWHILE", 5000)
    path = tmp_path / "index.sqlite3"
    store = SqliteStore(path, SPACE, storage=request.param)
    for number in range(DOCUMENTS):
        put(store, str(number), clustered(PASSAGES, number))
        if number == 20:
            store.arrange()
            assert number_in_cells(store) == 0, "too few to part"
    store.arrange()
    store.close()
    return path


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    yield store
    store.close()


def number_in_cells(store: SqliteStore) -> int:
    assert store._vectors is not None
    _, found = store._vectors.scan().cells()
    return int((found != scan.NO_CELL).sum())


def found(store: SqliteStore, query: Vectors, exact: bool = False, within: list[str] | None = None) -> list[str]:
    return [hit.passage.id for hit in store.search_vector(query, 10, within, exact=exact)]


def compared(store: SqliteStore, query: Vectors) -> int:
    """How many rows a search looks at."""
    assert store._vectors is not None
    rows = store._vectors.scan()
    assert rows.centres is not None
    return len(rows._probed(query, rows.centres))


def test_few_cells_give_nearly_what_all_vectors_give(store: SqliteStore) -> None:
    queries = clustered(100, 999)
    everything = {
        f"{number}#{at}-{at + 1}": vector
        for number in range(DOCUMENTS)
        for at, vector in enumerate(clustered(PASSAGES, number))
    }
    vectors, ids = np.array(list(everything.values())), list(everything)
    hits = 0
    for query in queries:
        best = {ids[row] for row in np.argsort(-(vectors @ query))[:10]}
        assert len(best & set(found(store, query, exact=True))) >= 9  # int8 may change places at the end
        hits += len(best & set(found(store, query)))
    assert hits / 1000 >= 0.95
    assert np.mean([compared(store, query) for query in queries]) < 0.4 * len(ids)


def test_what_is_added_later_is_found_and_gets_cells(path: Path, store: SqliteStore) -> None:
    new = clustered(3, 12345)
    assert number_in_cells(store) == DOCUMENTS * PASSAGES
    put(store, "new", new)
    other = SqliteStore(path)  # which reads the file
    for opened in (store, other):
        assert number_in_cells(opened) == DOCUMENTS * PASSAGES + 3
        for at, vector in enumerate(new):
            assert found(opened, vector)[0] == f"new#{at}-{at + 1}"
    other.close()


def test_what_is_deleted_is_in_no_cell(path: Path, store: SqliteStore) -> None:
    vectors = clustered(PASSAGES, 7)
    assert found(store, vectors[0])[0].startswith("7#")
    store.delete(["7"])
    for exact in (False, True):
        assert not any(name.startswith("7#") for name in found(store, vectors[0], exact))
    assert number_in_cells(store) == (DOCUMENTS - 1) * PASSAGES
    assert store._database.execute("SELECT count(*) FROM cells").fetchone() == (DOCUMENTS - 1,)
    store.check()


def test_a_search_within_documents_compares_all_of_theirs(store: SqliteStore) -> None:
    far = -clustered(1, 3)[0]
    assert len(found(store, far, within=["3"])) == 10
    assert found(store, far, within=["3"]) == found(store, far, exact=True, within=["3"])


def test_centres_of_another_process_are_taken(path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store._vectors is not None and store._vectors.scan().centres is not None
    monkeypatch.setattr(cells, "GROWTH", 1)
    other = SqliteStore(path)
    put(other, "more", clustered(2000, 77))
    other.arrange()
    other.close()
    put(store, "last", clustered(5, 78))
    centres = store._vectors.scan().centres
    assert centres is not None and len(centres.points) == number_of_cells(8000)
    assert number_in_cells(store) == 8005
    store.check()


def test_an_interrupted_parting_leaves_the_store_as_it_was(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "more", clustered(500, 77))
    before = [found(store, query) for query in clustered(20, 4)]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cells, "GROWTH", 1)
    monkeypatch.setattr("octavo.retrieve.stores.vector_table.VectorTable._by_document", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.arrange()
    assert [found(store, query) for query in clustered(20, 4)] == before
    store.check()


def test_the_rows_of_a_cell_lie_in_one_piece(path: Path, store: SqliteStore) -> None:
    assert store._vectors is not None
    rows = store._vectors.scan()
    assert (np.diff(rows._row("cells")) >= 0).all() and len(rows) == DOCUMENTS * PASSAGES
    put(store, "new", clustered(3, 12345))
    assert store._vectors.scan() is rows and len(rows) == DOCUMENTS * PASSAGES + 3, "added behind, without reading anew"


def test_numbers_that_are_deleted_are_overwritten_in_memory() -> None:
    rows = scan.Scan(48)
    rows.append(scan.Block(np.array([1, 2], np.int64), clustered(2, 1)))
    rows.remove(np.array([1], np.int64))
    assert not rows._row("vectors")[0].any() and rows._row("vectors")[1].any() and len(rows) == 1
