"""The embedded store: one SQLite file with documents, an FTS5 index of words, and vectors (`vector_table.py`).

Needs no extension of SQLite. The journal is a write-ahead log, so what `put` returned from survives a killed process.
Unusual: the word index keeps no text of its own; to take a passage out, its words are made once more from its text,
which is why the file names the rules (`words.ANALYSIS`) that made it. Deleted bytes are overwritten (secure_delete).
BM25 is FTS5's: k1 1.2, b 0.75, over Porter's stems.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from octavo.errors import OctavoError
from octavo.retrieve import words
from octavo.retrieve.stores import outside, vector_table
from octavo.retrieve.stores.outside import OutsideVectors, VectorIndex
from octavo.retrieve.stores.store import (
    Hit,
    Listing,
    Passage,
    Place,
    Source,
    Vectors,
    VectorSpace,
    check_document,
    check_space,
)
from octavo.retrieve.stores.vector_table import PASSAGES_OF, Storage, VectorTable
from octavo.writing import transaction

VERSION = 1
APPLICATION = 0x4F435456
"""The number in a file's header that says that it is ours."""
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE document (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL, sha256 TEXT NOT NULL,
  metadata TEXT NOT NULL, text BLOB NOT NULL  -- zlib over UTF-8
);
CREATE TABLE passage (
  id INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES document ON DELETE CASCADE,
  first INTEGER NOT NULL, last INTEGER NOT NULL, page INTEGER, line INTEGER,
  context TEXT NOT NULL, text TEXT NOT NULL
);
CREATE INDEX passage_of ON passage (document, id);
CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2');
"""
FOUND = """
SELECT passage.id, document.name, document.sha256, first, last, page, line, context, passage.text
FROM passage JOIN document ON document.id = passage.document
WHERE passage.id IN (SELECT value FROM json_each(?))
"""


def is_index(path: Path) -> bool:
    """Whether a file is an index of ours, of whatever version."""
    with path.open("rb") as file:
        header = file.read(72)
    return header.startswith(b"SQLite format 3\0") and header[68:] == APPLICATION.to_bytes(4, "big")


def found_space(path: Path) -> VectorSpace | None:
    """What the vectors of a file are, without opening what keeps them; None for a file without vectors."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        try:
            return _space(dict(database.execute("SELECT key, value FROM meta").fetchall()))
        except sqlite3.Error:
            return None  # opening it as a store says what it is


class SqliteStore:
    """Implements `Store`.

    path None: in memory. space: the encoder whose vectors it keeps; None: whatever the file was made with, and no
    vectors in a new one. storage: of the vectors of a new file. vectors: another database that keeps them in the file's
    place, closed with it. Raises OctavoError for a file that is not one of ours, or was made with another encoder or
    for another database.
    """

    def __init__(
        self,
        path: Path | None,
        space: VectorSpace | None = None,
        *,
        storage: Storage = "float32",
        vectors: VectorIndex | None = None,
    ) -> None:
        self._place = str(path or "the store in memory")
        self._lock = threading.RLock()
        self._vectors: VectorTable | OutsideVectors | None = None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._prepare(space, storage if vectors is None else vectors.name)
            self.space = _space(self._meta())
            check_space(self.space, space, self._place)
            self._vectors = self._keeper(vectors)
        except (sqlite3.Error, OSError) as error:
            raise OctavoError(f"the index {self._place} cannot be opened: {error}; index anew with --rebuild") from None

    def _keeper(self, given: VectorIndex | None) -> VectorTable | OutsideVectors | None:
        """What keeps the vectors, by the file's own word."""
        kept_in = self._meta()["storage"]
        if given is None and kept_in not in ("float32", "int8"):
            raise OctavoError(f"the vectors of {self._place} are in {kept_in}; open it with --store {kept_in}")
        if given is not None and kept_in != given.name:
            raise OctavoError(f"the vectors of {self._place} are not in {given.name}; index anew with --rebuild")
        if self.space is None:
            return None
        if given is not None:
            return OutsideVectors(self._database, given)
        return VectorTable(self._database, self.space.dimensions, kept_in)

    def _prepare(self, space: VectorSpace | None, storage: str) -> None:
        for setting in ("busy_timeout=10000", "auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=NORMAL"):
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("PRAGMA foreign_keys=ON")
        self._database.execute("PRAGMA secure_delete=ON")
        with self._transaction():
            tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables:
                self._database.execute(f"PRAGMA application_id={APPLICATION}")
                for statement in SCHEMA.split(";\n"):
                    self._database.execute(statement)
                self._database.executemany("INSERT INTO meta VALUES (?, ?)", _description(space, storage).items())
        made = self._meta() if self._has_meta() else {}
        if made.get("version") != str(VERSION) or made.get("analysis") != str(words.ANALYSIS):
            raise OctavoError(f"{self._place} is not an index of this version of Octavo; index anew with --rebuild")
        with self._transaction():
            for statement in (*vector_table.TABLES, *outside.TABLES):
                self._database.execute(statement)

    def put(self, source: Source, places: Sequence[Place], vectors: Vectors | None) -> None:
        """Store a document with its passages, in place of one of the same name."""
        check_document(source, places, vectors, self.space)
        with self._transaction():
            self._remove([source.name])
            document = self._database.execute(
                "INSERT INTO document (name, fingerprint, sha256, metadata, text) VALUES (?, ?, ?, ?, ?)",
                (
                    source.name,
                    source.fingerprint,
                    source.sha256,
                    json.dumps(dict(source.metadata)),
                    _packed(source.text),
                ),
            ).lastrowid
            passages = []
            for place in places:
                text = source.text[place.start : place.end]
                row = self._database.execute(
                    "INSERT INTO passage (document, first, last, page, line, context, text) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (document, place.start, place.end, place.page, place.line, place.context, text),
                ).lastrowid
                passages.append(row or 0)
                searched = _searched(place.context, text)
                self._database.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (row, searched))
            if vectors is not None and self._vectors is not None:
                stored = [
                    Passage(source.name, source.sha256, place, source.text[place.start : place.end]) for place in places
                ]
                self._vectors.insert(document or 0, passages, vectors, stored)

    def delete(self, names: Collection[str]) -> None:
        """Delete documents with all that was made from them."""
        with self._transaction():
            self._remove(names)

    def listing(self) -> dict[str, Listing]:
        """Every document by its name."""
        with self._lock:
            rows = self._database.execute(
                "SELECT name, fingerprint, sha256, metadata, "
                "(SELECT count(*) FROM passage WHERE document = document.id) FROM document ORDER BY name"
            ).fetchall()
        return {row[0]: Listing(row[1], row[2], row[4], json.loads(row[3])) for row in rows}

    def text(self, name: str) -> str:
        """A document's canonical text."""
        with self._lock:
            row = self._database.execute("SELECT text FROM document WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise OctavoError(f"there is no document {name!r} in {self._place}")
        return zlib.decompress(row[0]).decode()

    def search_words(self, query: str, limit: int, within: Collection[str] | None = None) -> list[Hit]:
        """The passages that fit a query's words best; any of the words will do."""
        terms = words.query_terms(query)
        if not terms:
            return []
        sought = " OR ".join(f'"{term}"*' if words.is_lone_character(term) else f'"{term}"' for term in terms)
        inside = "" if within is None else f"AND rowid IN ({PASSAGES_OF})"
        with self._lock:
            rows = self._database.execute(
                f"SELECT rowid, -rank FROM words WHERE words MATCH ? {inside} ORDER BY rank, rowid LIMIT ?",
                (sought, *([] if within is None else [json.dumps(list(within))]), limit),
            ).fetchall()
            return self._hits(rows)

    def search_vector(
        self, vector: Vectors, limit: int, within: Collection[str] | None = None, *, exact: bool = False
    ) -> list[Hit]:
        """The passages whose vectors have the greatest inner product with `vector`.

        Compared with every one, unless so many lie in cells and neither `within` nor `exact` is given.
        """
        if self.space is None or self._vectors is None:
            raise OctavoError(f"{self._place} keeps no vectors; index anew with an encoder")
        if vector.shape != (self.space.dimensions,):
            raise OctavoError(f"the query has the shape {vector.shape}; the store takes ({self.space.dimensions},)")
        with self._lock:
            return self._hits(self._vectors.search(vector, limit, within, exact=exact))

    def arrange(self, *, show: bool = False) -> None:
        """Part the vectors into cells, where there are many and few of them were there the last time."""
        if self._vectors is not None:
            with self._transaction():
                self._vectors.arrange(show=show)

    def remember(self, key: str, value: str) -> None:
        """Keep a note."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"note {key}", value))

    def recall(self, key: str) -> str | None:
        """A note that was kept."""
        with self._lock:
            return self._meta().get(f"note {key}")

    def snapshot(self, path: Path) -> None:
        """Write a copy of the whole store to a file, while it is in use. Raises OctavoError where the file exists."""
        if path.exists():
            raise OctavoError(f"{path} is there already; name another file")
        beside = path.with_name(path.name + ".part")
        beside.unlink(missing_ok=True)
        with sqlite3.connect(beside) as copy, self._lock:
            self._database.backup(copy)
        copy.close()
        beside.rename(path)

    def check(self) -> None:
        """Assert that words, passages and vectors agree: for tests, and after a crash."""
        with self._lock:
            (passages,) = self._database.execute("SELECT count(*) FROM passage").fetchone()
            (indexed,) = self._database.execute("SELECT count(*) FROM words_docsize").fetchone()
            assert passages == indexed, f"{passages} passages, {indexed} in the word index"
            assert self._vectors is None or passages == len(self._vectors), "passages and vectors differ"
            self._database.execute("INSERT INTO words (words) VALUES ('integrity-check')")

    def compact(self) -> None:
        """Merge the word index, which drops the words of what was deleted, and give the file's free pages back."""
        with self._lock:
            self._database.execute("INSERT INTO words (words) VALUES ('optimize')")
            self._database.execute("PRAGMA incremental_vacuum").fetchall()
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            if isinstance(self._vectors, OutsideVectors):
                self._vectors.close()
            self._database.close()

    def _remove(self, names: Collection[str]) -> None:
        for name in names:
            rows = self._database.execute(
                "SELECT passage.id, context, passage.text FROM passage "
                "JOIN document ON document.id = passage.document WHERE name = ?",
                (name,),
            ).fetchall()
            self._database.executemany(
                "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)",
                [(row, _searched(context, text)) for row, context, text in rows],
            )
            if self._vectors is not None:
                self._vectors.removed([row for row, _, _ in rows])
            self._database.execute("DELETE FROM document WHERE name = ?", (name,))

    def _hits(self, scored: Sequence[tuple[int, float]]) -> list[Hit]:
        rows = self._database.execute(FOUND, (json.dumps([row for row, _ in scored]),)).fetchall()
        passages = {
            row: Passage(name, sha256, Place(first, last, page, line, context), text)
            for row, name, sha256, first, last, page, line, context, text in rows
        }
        return [Hit(passages[row], score) for row, score in scored]

    def _has_meta(self) -> bool:
        sought = "SELECT 1 FROM sqlite_master WHERE name = 'meta'"
        return self._database.execute(sought).fetchone() is not None

    def _meta(self) -> dict[str, str]:
        return dict(self._database.execute("SELECT key, value FROM meta").fetchall())

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                with transaction(self._database):
                    yield
            except BaseException:
                if self._vectors is not None:
                    self._vectors.rolled_back()
                raise
            if self._vectors is not None:
                self._vectors.committed()


def _searched(context: str, text: str) -> str:
    """What the word index holds of a passage."""
    return words.indexed(f"{context}\n{text}")


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode(), 3)


def _description(space: VectorSpace | None, storage: str) -> dict[str, str]:
    """What a file says about itself."""
    made = {"version": str(VERSION), "analysis": str(words.ANALYSIS), "storage": storage}
    return made if space is None else {**made, "encoder": space.encoder, "dimensions": str(space.dimensions)}


def _space(meta: dict[str, str]) -> VectorSpace | None:
    return VectorSpace(meta["encoder"], int(meta["dimensions"])) if "encoder" in meta else None
