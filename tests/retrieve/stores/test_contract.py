"""What every store does, whatever it is made of."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from octavo.errors import OctavoError
from octavo.retrieve.library import open_library
from octavo.retrieve.search import TextEncoder
from octavo.retrieve.stores.outside import VectorIndex, open_vectors
from octavo.retrieve.stores.postgres import PostgresStore
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Place, Source, Store, Vectors, VectorSpace

SPACE = VectorSpace("toy", 8)
Open = Callable[[], Store]


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server with pgvector, which the tests start."""
    pgserver = pytest.importorskip("pgserver", reason="pgserver, which carries a PostgreSQL, is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    try:
        server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    except subprocess.TimeoutExpired:  # it gives itself ten seconds
        pytest.skip("the PostgreSQL server did not start in time on this busy machine")
    yield server.get_uri()
    server.cleanup()


OUTSIDE = {"chroma": "chromadb", "qdrant": "qdrant_client", "lance": "lancedb"}


def outside(kind: str, folder: Path) -> VectorIndex:
    """Vectors in a database of another maker."""
    pytest.importorskip(OUTSIDE[kind], reason=f"{OUTSIDE[kind]} is not installed")
    return open_vectors(kind, folder, SPACE.dimensions)


@pytest.fixture(params=["sqlite float32", "sqlite int8", "postgres", *OUTSIDE])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Call it to open the same store, any number of times."""
    opened: list[Store] = []
    address = request.getfixturevalue("postgres") if request.param == "postgres" else None
    schema = f"test_{zlib.crc32(str(tmp_path).encode())}"

    def call() -> Store:
        if address is not None:
            opened.append(PostgresStore(address, SPACE, schema=schema))
        elif request.param in OUTSIDE:
            vectors = outside(request.param, tmp_path / "vectors")
            opened.append(SqliteStore(tmp_path / "index.sqlite3", SPACE, vectors=vectors))
        else:
            opened.append(SqliteStore(tmp_path / "index.sqlite3", SPACE, storage=request.param.split()[1]))
        return opened[-1]

    yield call
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()


def direction(seed: int, count: int = 1) -> Vectors:
    """(count, 8) unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, SPACE.dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def put(store: Store, name: str, *passages: str, seed: int = 0, fingerprint: str = "1") -> Source:
    """A document of these passages, one after the other."""
    text, places = "", []
    for number, passage in enumerate(passages, 1):
        places.append(Place(len(text), len(text) + len(passage), page=number, line=number, context="Waterfowl"))
        text += passage + "\n"
    source = Source(name, text, fingerprint, {"kind": name.rpartition(".")[2], "pages": len(passages)})
    store.put(source, places, direction(seed, len(passages)))
    return source


def names(store: Store, query: str, **options: object) -> list[str]:
    return [hit.passage.document for hit in store.search_words(query, 10, **options)]  # type: ignore[arg-type]


def test_a_passage_comes_back_with_its_place_and_exact_text(store: Store) -> None:
    source = put(store, "birds.txt", "Geese fly south.", "Ducks 鴨 swim — well.")
    (hit,) = store.search_words("swimming duck", 5)
    passage = hit.passage
    assert (passage.document, passage.sha256) == ("birds.txt", source.sha256)
    assert passage.place == Place(17, 37, page=2, line=2, context="Waterfowl")
    assert passage.text == source.text[17:37] == "Ducks 鴨 swim — well."
    assert store.text("birds.txt") == source.text
    listing = store.listing()["birds.txt"]
    assert (listing.fingerprint, listing.passages, listing.metadata) == ("1", 2, {"kind": "txt", "pages": 2})


def test_storing_a_document_again_replaces_it(store: Store) -> None:
    put(store, "a.txt", "old words", "more old words")
    put(store, "a.txt", "new words", fingerprint="2")
    assert names(store, "words") == ["a.txt"]
    assert names(store, "old") == []
    assert len(store.search_vector(direction(0)[0], 10)) == 1
    assert store.listing()["a.txt"].fingerprint == "2"


def test_what_is_deleted_is_found_no_more(store: Store) -> None:
    put(store, "a.txt", "heron heron", seed=1)
    put(store, "b.txt", "heron", seed=2)
    store.delete(["a.txt", "never.txt"])
    assert names(store, "heron") == ["b.txt"]
    assert [hit.passage.document for hit in store.search_vector(direction(1)[0], 10)] == ["b.txt"]
    assert list(store.listing()) == ["b.txt"]
    with pytest.raises(OctavoError, match=r"no document 'a\.txt'"):
        store.text("a.txt")
    store.compact()
    assert names(store, "heron") == ["b.txt"]


def test_a_search_can_be_held_to_some_documents(store: Store) -> None:
    for number in range(4):
        put(store, f"{number}.txt", f"grebe {number}", seed=number)
    assert names(store, "grebe", within=["1.txt", "3.txt"]) == ["1.txt", "3.txt"]
    found = store.search_vector(direction(0)[0], 10, within=["2.txt"])
    assert [hit.passage.document for hit in found] == ["2.txt"]
    assert names(store, "grebe", within=[]) == []
    assert store.search_vector(direction(0)[0], 10, within=[]) == []


def test_vectors_are_found_as_by_comparing_all(store: Store) -> None:
    vectors = {}
    for number in range(30):
        put(store, f"{number:02}.txt", *["x"] * 5, seed=100 + number)
        for row, vector in enumerate(direction(100 + number, 5)):
            vectors[f"{number:02}.txt#{2 * row}-{2 * row + 1}"] = vector
    for seed in range(20):
        query = direction(seed)[0]
        exact = sorted(vectors, key=lambda name: -float(vectors[name] @ query))[:10]
        found = store.search_vector(query, 10)
        assert [hit.score for hit in found] == pytest.approx(
            [float(vectors[h.passage.id] @ query) for h in found], abs=0.02
        )
        assert len(set(exact) & {hit.passage.id for hit in found}) >= 9


def test_more_and_rarer_words_rank_first(store: Store) -> None:
    put(store, "a.txt", "the duck and the pond")
    put(store, "b.txt", "the pond")
    put(store, "c.txt", "the pond and its pochard")
    assert names(store, "duck pond")[0] == "a.txt"
    assert names(store, "pochard pond")[0] == "c.txt"


def test_chinese_is_found_by_pairs_and_by_one_character_anywhere(store: Store) -> None:
    put(store, "a.txt", "玄德曰：此人名張飛。")
    put(store, "b.txt", "飛將軍呂布")
    assert names(store, "張飛") == ["a.txt"]
    assert names(store, "玄德是誰？") == ["a.txt"]
    assert sorted(names(store, "飛")) == ["a.txt", "b.txt"]
    assert names(store, "德玄") == []


@pytest.mark.parametrize(
    "query", ['"', "a AND", "NOT duck", "duck*", "text:duck", "-duck", "(duck", "duck NEAR/2 x", "'; --", "\0", ""]
)
def test_no_sign_of_a_query_is_an_operator(store: Store, query: str) -> None:
    put(store, "a.txt", "duck")
    assert names(store, query) == (["a.txt"] if "duck" in query else [])


def test_a_store_is_the_same_when_it_is_opened_again(open_store: Open) -> None:
    first = open_store()
    put(first, "a.txt", "teal", seed=3)
    first.remember("splitting", "[800, 80]")
    first.close()
    again = open_store()
    assert (again.recall("splitting"), again.recall("colour")) == ("[800, 80]", None)
    assert names(again, "teal") == ["a.txt"]
    assert again.search_vector(direction(3)[0], 1)[0].score == pytest.approx(1, abs=0.02)


def test_what_another_connection_writes_is_seen(open_store: Open) -> None:
    reader, writer = open_store(), open_store()
    put(writer, "a.txt", "teal", seed=3)
    assert len(reader.search_vector(direction(3)[0], 5)) == 1
    writer.delete(["a.txt"])
    assert reader.search_vector(direction(3)[0], 5) == reader.search_words("teal", 5) == []


def test_what_does_not_fit_is_refused_and_changes_nothing(store: Store) -> None:
    put(store, "a.txt", "teal")
    for places, vectors in (
        ([Place(0, 9)], direction(0)),
        ([Place(0, 2)], None),
        ([Place(0, 2)], direction(0, 2)),
        ([Place(0, 2)], np.zeros((1, 3), np.float32)),
    ):
        with pytest.raises(OctavoError):
            store.put(Source("a.txt", "gone", "2"), places, vectors)
    with pytest.raises(OctavoError, match="shape"):
        store.search_vector(np.zeros(3, np.float32), 1)
    assert names(store, "teal") == ["a.txt"]


def test_a_number_that_is_used_again_has_the_new_vector(store: Store) -> None:
    put(store, "a.txt", "teal", seed=1)
    put(store, "a.txt", "teal", seed=2)  # the last passage is replaced, so its number comes again
    (hit,) = store.search_vector(direction(2)[0], 5)
    assert hit.score == pytest.approx(1, abs=0.02)
    store.delete(["a.txt"])
    put(store, "b.txt", "teal", seed=3)
    (hit,) = store.search_vector(direction(3)[0], 5, exact=True)
    assert hit.score == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", OUTSIDE)
def test_a_crash_between_two_databases_leaves_nothing_half_there(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = outside(kind, tmp_path / "vectors")
    store = SqliteStore(tmp_path / "index.sqlite3", SPACE, vectors=vectors)
    put(store, "a.txt", "teal", seed=1)
    put(store, "b.txt", "teal", seed=2)
    with monkeypatch.context() as broken:
        broken.setattr(type(vectors), "remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.delete(["a.txt"])
    assert vectors.count() == 2, "it could not be taken out"
    assert [hit.passage.document for hit in store.search_vector(direction(1)[0], 1)] == ["b.txt"]
    put(store, "c.txt", "teal", seed=3)
    assert vectors.count() == 2, "the next change takes it out"
    with monkeypatch.context() as broken:
        broken.setattr(SqliteStore, "_hits", lambda *_: 1 / 0)
        broken.setattr("octavo.retrieve.stores.outside.OutsideVectors.committed", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.delete(["b.txt"])
    store.close()
    again = SqliteStore(tmp_path / "index.sqlite3", SPACE, vectors=outside(kind, tmp_path / "vectors"))
    assert len(again._vectors) == 1 == len(again.search_vector(direction(1)[0], 5))  # type: ignore[arg-type]
    again.check()
    again.close()


@pytest.mark.parametrize("kind", OUTSIDE)
def test_what_a_transaction_would_have_stored_is_taken_out_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = outside(kind, tmp_path / "vectors")
    store = SqliteStore(tmp_path / "index.sqlite3", SPACE, vectors=vectors)
    put(store, "a.txt", "teal", seed=1)

    def add_and_fail(*given: object) -> None:
        monkeypatch.undo()
        vectors.add(*given[1:])  # type: ignore[arg-type]
        raise ZeroDivisionError

    monkeypatch.setattr(type(vectors), "add", add_and_fail)
    with pytest.raises(ZeroDivisionError):
        put(store, "b.txt", "teal", "teal", seed=2)
    assert vectors.count() == 1 and names(store, "teal") == ["a.txt"]
    store.close()


def test_a_file_says_where_its_vectors_are(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "index.sqlite3", SPACE, vectors=outside("lance", tmp_path / "vectors")).close()
    with pytest.raises(OctavoError, match="are in lance; open it with --store lance"):
        SqliteStore(tmp_path / "index.sqlite3", SPACE)
    SqliteStore(tmp_path / "plain.sqlite3", SPACE).close()
    with pytest.raises(OctavoError, match="not in lance"):
        SqliteStore(tmp_path / "plain.sqlite3", SPACE, vectors=outside("lance", tmp_path / "vectors"))


def test_an_empty_document_is_listed_and_has_no_passage(store: Store) -> None:
    store.put(Source("empty.txt", "", "1"), [], np.zeros((0, SPACE.dimensions), np.float32))
    assert store.listing()["empty.txt"].passages == 0
    assert store.search_vector(direction(0)[0], 5) == []


def test_a_folder_is_indexed_in_postgres_and_found_again(postgres: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "ducks.md").write_text("Mallards eat weed.")
    for expected in ((1, 0), (0, 1)):
        library = open_library(docs, _no_encoder, index=postgres, encoder="none")
        report = library.update()
        assert (report.added, report.unchanged) == expected
        assert [hit.passage.document for hit in library.search.find("what do mallards eat?", 3)] == ["ducks.md"]
        library.close()
    anew = open_library(docs, _no_encoder, index=postgres, encoder="none", rebuild=True)
    assert anew.store.listing() == {}
    anew.close()
    with pytest.raises(OctavoError, match="cannot be reached"):
        open_library(docs, _no_encoder, index="postgresql://nobody@127.0.0.1:1/none")


def _no_encoder(reference: str) -> TextEncoder:
    raise AssertionError(reference)
