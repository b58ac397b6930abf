"""The vectors of a SQLite store: a row a document, the cells of a large store beside them, and all of it in memory.

In the file they lie by documents, so that one is stored and deleted in one piece; in memory by cells, so that a search
reads in one piece.

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
from numpy.typing import NDArray

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
SPANS = "(SELECT document, min(id) AS first, count(*) AS count FROM passage GROUP BY document)"
STORED = f"""
SELECT first, count, vectors.data, vectors.scales FROM {SPANS} JOIN vectors USING (document) ORDER BY document
"""
CELLS = f"""
SELECT count, cells.data FROM {SPANS} JOIN vectors USING (document) LEFT JOIN cells USING (document) ORDER BY document
"""
READ_AT_ONCE = 4096
"""Rows, more or less."""


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
            self._database.execute("SAVEPOINT reading")  # so that another process changes nothing between two selects
            try:
                self._scan = self._read()
            finally:
                self._database.execute("RELEASE reading")
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
        self._scan = None  # it is read anew, by cells

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
        """All of the file, the rows of each cell in one piece."""
        scan = Scan(self._dimensions, int8=self._int8, centres=self._centres())
        cells = [
            np.full(count, NO_CELL, np.int32) if data is None else np.frombuffer(data, "<i4")
            for count, data in self._database.execute(CELLS)
        ]
        scan.lay(np.concatenate([np.empty(0, np.int32), *cells]), self._blocks(cells))
        return scan

    def _blocks(self, cells: Sequence[NDArray[np.int32]]) -> Iterator[Block]:
        """The file's documents in their order, some thousand passages at a time. cells: of each document."""
        blocks: list[Block] = []
        waiting = 0
        for (first, count, data, scales), own in zip(self._database.execute(STORED), cells, strict=True):
            vectors = np.frombuffer(data, np.int8 if self._int8 else "<f4").reshape(count, self._dimensions)
            ids = np.arange(first, first + count)
            blocks.append(Block(ids, vectors, None if scales is None else np.frombuffer(scales, "<f4"), own))
            waiting += count
            if waiting > READ_AT_ONCE:
                yield _joined(blocks)
                blocks, waiting = [], 0
        if blocks:
            yield _joined(blocks)


def _joined(blocks: Sequence[Block]) -> Block:
    """Blocks as one."""
    scales = [block.scales for block in blocks if block.scales is not None]
    return Block(
        np.concatenate([block.ids for block in blocks]),
        np.concatenate([block.vectors for block in blocks]),
        np.concatenate(scales) if scales else None,
        np.concatenate([block.cells for block in blocks if block.cells is not None]),
    )
