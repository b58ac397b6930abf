"""Vectors in a database of another maker, beside the SQLite file that keeps documents, words and notes.

The file is the truth: a hit that it does not know is no hit. Vectors are added before the file's transaction commits,
so nothing is stored that cannot be found; what is deleted is written down in that transaction and taken out of the
other database after it, at once or, after a crash, before the next change.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from octavo.errors import UnknownNameError, nearest
from octavo.retrieve.stores.store import Passage, Vectors

KINDS = ("chroma", "qdrant", "lance")
TABLES = ("CREATE TABLE IF NOT EXISTS leaving (id INTEGER PRIMARY KEY)",)
_MORE = 4
"""Times the hits that are asked for where some were unknown to the file."""


class VectorIndex(Protocol):
    """Vectors by number, found by inner product. Implementations: Chroma, Qdrant, LanceDB."""

    name: str

    def add(self, ids: Sequence[int], vectors: Vectors, passages: Sequence[Passage]) -> None:
        """Store vectors (n, d) in place of those that have these ids. passages: what they are of, for other readers."""
        ...

    def remove(self, ids: Sequence[int]) -> None:
        """Take vectors out; ids that are not there are no error."""
        ...

    def nearest(
        self, vector: Vectors, limit: int, within: Collection[str] | None, *, exact: bool
    ) -> Iterable[tuple[int, float]]:
        """Ids of the greatest inner products with those. within: only of these documents."""
        ...

    def count(self) -> int:
        """How many there are."""
        ...

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


def open_vectors(kind: str, folder: Path, dimensions: int) -> VectorIndex:
    """The vectors of a folder that another maker's database has, or a new one's.

    Raises UnknownNameError for a kind that is not one of KINDS, MissingDependencyError where its package is missing.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if kind == "chroma":
        from octavo.retrieve.stores.chroma import ChromaVectors

        return ChromaVectors(folder)
    if kind == "qdrant":
        from octavo.retrieve.stores.qdrant import QdrantVectors

        return QdrantVectors(folder, dimensions)
    if kind == "lance":
        from octavo.retrieve.stores.lance import LanceVectors

        return LanceVectors(folder, dimensions)
    raise UnknownNameError(f"no store is called {kind!r}{nearest(kind, KINDS)}", param="--store")


class OutsideVectors:
    """A `VectorIndex` in the place of the file's own table of vectors. The store's lock is held around every call."""

    def __init__(self, database: sqlite3.Connection, index: VectorIndex) -> None:
        self._database = database
        self._index = index
        self._added: list[int] = []
        self._settle()

    def insert(self, document: int, ids: Sequence[int], vectors: Vectors, passages: Sequence[Passage]) -> None:
        """Store a document's vectors."""
        if ids:
            self._added += ids
            self._index.add(ids, vectors, passages)
            self._database.execute("DELETE FROM leaving WHERE id IN (SELECT value FROM json_each(?))", (_json(ids),))

    def removed(self, ids: Sequence[int]) -> None:
        """Say that these passages are deleted."""
        self._database.executemany("INSERT OR IGNORE INTO leaving VALUES (?)", [(number,) for number in ids])

    def committed(self) -> None:
        """Take out what the transaction deleted."""
        self._added = []
        self._settle()

    def rolled_back(self) -> None:
        """Take out what the transaction would have stored, unless a number of it is in use."""
        added, self._added = self._added, []
        self._database.execute("BEGIN IMMEDIATE")
        used = "SELECT id FROM passage WHERE id IN (SELECT value FROM json_each(?))"
        kept = {number for (number,) in self._database.execute(used, (_json(added),))}
        self._index.remove([number for number in added if number not in kept])
        self._database.execute("COMMIT")

    def search(
        self, vector: Vectors, limit: int, within: Collection[str] | None, *, exact: bool
    ) -> list[tuple[int, float]]:
        """The ids of the passages with the greatest inner products, best first, equal ones by their id."""
        if within is not None and not within:
            return []
        asked = limit
        while True:
            found = sorted(self._index.nearest(vector, asked, within, exact=exact), key=lambda hit: (-hit[1], hit[0]))
            rows = "SELECT id FROM passage WHERE id IN (SELECT value FROM json_each(?))"
            known = {number for (number,) in self._database.execute(rows, (_json([name for name, _ in found]),))}
            hits = [hit for hit in found if hit[0] in known]
            if len(hits) >= limit or len(found) < asked:
                return hits[:limit]
            asked *= _MORE

    def arrange(self, *, show: bool) -> None:
        """Nothing to do: the other database has an index of its own."""

    def __len__(self) -> int:
        return self._index.count()

    def close(self) -> None:
        """Close the other database."""
        self._index.close()

    def _settle(self) -> None:
        if self._database.execute("SELECT 1 FROM leaving LIMIT 1").fetchone() is None:
            return
        self._database.execute("BEGIN IMMEDIATE")  # numbers are used again: none may be, between these two
        try:
            self._index.remove([number for (number,) in self._database.execute("SELECT id FROM leaving")])
            self._database.execute("DELETE FROM leaving")
        finally:
            self._database.execute("COMMIT")


def _json(ids: Sequence[int]) -> str:
    return json.dumps(list(ids))
