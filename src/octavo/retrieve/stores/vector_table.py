"""The vectors of a SQLite store: a row a document, the cells of a large store beside them, and all of it in memory.

Centres and cells are tables of the same file: they change with the vectors in one transaction, and a document that is
deleted takes its cells along. What a transaction does reaches memory when it is committed; what another process
committed is read anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import numpy as np

from octavo.retrieve.stores.cells import Centres, assign, is_due
from octavo.retrieve.stores.scan import NO_CELL, Block, Ids, Scan, pack_int8
from octavo.retrieve.stores.store import Passage, Vectors

Storage = Literal["float32", "int8"]
TABLES = (
    "CREATE TABLE IF NOT EXISTS vectors (document INTEGER PRIMARY KEY REFERENCES document ON DELETE CASCADE, "
    "data BLOB NOT NULL, scales BLOB)",
    "CREATE TABLE IF NOT EXISTS cells (document INTEGER PRIMARY KEY REFERENCES document ON DELETE CASCADE, "
    "data BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS centres (one INTEGER PRIMARY KEY CHECK (one = 1), points BLOB NOT NULL, "
    "probes INTEGER NOT NULL, trained_on INTEGER NOT NULL)",
)
PASSAGES_OF = """
SELECT passage.id FROM passage JOIN document ON document.id = passage.document
WHERE name IN (SELECT value FROM json_each(?))
"""
STORED = """
SELECT first, count, vectors.data, vectors.scales, cells.data
FROM (SELECT document, min(id) AS first, count(*) AS count FROM passage GROUP BY document)
JOIN vectors USING (document) LEFT JOIN cells USING (document) ORDER BY document
"""


class VectorTable:
    """Not thread-safe: the store's lock is held around every call, and its transaction around every change."""

    def __init__(self, database: sqlite3.Connection, dimensions: int, storage: str) -> None:
        self._database = database
        self._dimensions = dimensions
        self._int8 = storage == "int8"
        self._scan: Scan | None = None
        self._version = -1
        self._pending: list[Block | Ids] = []

    def insert(self, document: int, ids: Sequence[int], vectors: Vectors, passages: Sequence[Passage]) -> None:
        """Store a document's vectors (len(ids), dimensions). ids: of its passages, which follow each other."""
        packed, scales = pack_int8(vectors) if self._int8 else (np.ascontiguousarray(vectors, "<f4"), None)
        blobs = (packed.tobytes(), None if scales is None else scales.astype("<f4").tobytes())
        self._database.execute("INSERT INTO vectors VALUES (?, ?, ?)", (document, *blobs))
        centres = self._centres()
        cells = None if centres is None else assign(np.asarray(vectors, np.float32), centres.points)
        if cells is not None:
            self._database.execute("INSERT INTO cells VALUES (?, ?)", (document, cells.astype("<i4").tobytes()))
        self._pending.append(Block(np.array(ids, np.int64), packed, scales, cells))

    def removed(self, ids: Sequence[int]) -> None:
        """Say that these passages are deleted; their rows go with their document's."""
        self._pending.append(np.array(ids, np.int64))

    def committed(self) -> None:
        """Bring what the transaction did into memory."""
        scan, changes, self._pending = self._scan, self._pending, []
        for change in changes if scan is not None else ():
            assert scan is not None
            if isinstance(change, Block):
                scan.append(change)
            else:
                scan.remove(change)

    def rolled_back(self) -> None:
        """Forget what the transaction would have done; memory is read anew."""
        self._pending, self._scan = [], None

    def scan(self) -> Scan:
        """All vectors in memory, as they are now."""
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if self._scan is None or self._version != version:
            self._scan, self._version = None, version  # the old one goes before the new one comes
            self._scan = self._read()
        return self._scan

    def search(
        self, vector: Vectors, limit: int, within: Collection[str] | None, *, exact: bool
    ) -> list[tuple[int, float]]:
        """The ids of the passages with the greatest inner products, best first. within: only of these documents."""
        allowed: Ids | None = None
        if within is not None:
            rows = self._database.execute(PASSAGES_OF, (json.dumps(list(within)),)).fetchall()
            allowed = np.array([row for (row,) in rows], dtype=np.int64)
        return self.scan().best(vector, limit, allowed, exact=exact)

    def __len__(self) -> int:
        return len(self.scan())

    def arrange(self, *, show: bool) -> None:
        """Part many vectors into cells where that is due."""
        scan = self.scan()
        if not is_due(len(scan), scan.centres):
            return
        centres = scan.arrange(show=show)
        points = (centres.points.astype("<f4").tobytes(), centres.probes, centres.trained_on)
        self._database.execute("INSERT OR REPLACE INTO centres VALUES (1, ?, ?, ?)", points)
        self._database.execute("DELETE FROM cells")
        ids, cells = scan.cells()
        self._database.executemany("INSERT INTO cells VALUES (?, ?)", self._by_document(ids, cells.astype("<i4")))

    def _by_document(self, ids: Ids, cells: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Iterator[tuple[int, bytes]]:
        spans = "SELECT document, min(id), count(*) FROM passage GROUP BY document"
        for document, first, count in self._database.execute(spans).fetchall():
            start = int(np.searchsorted(ids, first))
            yield document, cells[start : start + count].tobytes()

    def _centres(self) -> Centres | None:
        """Those of the file: the scan's where that is in memory and of the file's state."""
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if self._scan is not None and self._version == version:
            return self._scan.centres
        row = self._database.execute("SELECT points, probes, trained_on FROM centres").fetchone()
        if row is None:
            return None
        points = np.frombuffer(row[0], "<f4").reshape(-1, self._dimensions)
        return Centres(points.astype(np.float32), row[1], row[2])

    def _read(self) -> Scan:
        scan = Scan(self._dimensions, int8=self._int8, centres=self._centres())
        (count,) = self._database.execute("SELECT count(*) FROM passage").fetchone()
        scan.reserve(count)
        blocks, waiting = [], 0
        for first, count, data, scales, cells in self._database.execute(STORED):
            vectors = np.frombuffer(data, np.int8 if self._int8 else "<f4").reshape(count, self._dimensions)
            blocks.append(
                Block(
                    np.arange(first, first + count),
                    vectors,
                    None if scales is None else np.frombuffer(scales, "<f4"),
                    None if cells is None else np.frombuffer(cells, "<i4"),
                )
            )
            waiting += count
            if waiting > 4096:
                scan.append(_joined(blocks))
                blocks, waiting = [], 0
        if blocks:
            scan.append(_joined(blocks))
        return scan


def _joined(blocks: Sequence[Block]) -> Block:
    """Blocks as one; a block without cells among others gets NO_CELL."""
    cells = [np.full(len(block.ids), NO_CELL, np.int32) if block.cells is None else block.cells for block in blocks]
    scales = [block.scales for block in blocks if block.scales is not None]
    return Block(
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.vectors for block in blocks]),
        np.concatenate(scales) if scales else None,
        np.concatenate(cells),
    )
