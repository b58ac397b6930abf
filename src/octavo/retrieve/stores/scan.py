"""Vectors in memory: a query is compared with every one, by the kernel, or only with those of the cells nearest to it.

int8 keeps a quarter of the bytes: each vector is scaled by its own greatest value. Rows that have no cell yet are
compared by every search, so that what was just added is never missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo import settings
from octavo.nn.kernels import binding, scanning
from octavo.retrieve.stores.cells import Cells, Centres, assign, nearest_cells, number_of_cells, sample, train
from octavo.retrieve.stores.store import Vectors

Ids = NDArray[np.int64]
NO_CELL = -1
RECALL = 0.98
"""Of the ten nearest by comparing all, what looking into cells must find when it is asked with stored vectors."""
_ASKED, _FEWEST_PROBES = 64, 8
_BLOCK = 1 << 14
"""Vectors that are widened at a time."""


def pack_int8(vectors: Vectors) -> tuple[NDArray[np.int8], Vectors]:
    """(n, d) float32 as (n, d) int8 and (n,) float32 scales: vector = int8 * scale, to the nearest step."""
    scales = np.abs(vectors).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
    steps = vectors / np.where(scales == 0, 1, scales)[:, None]
    return np.rint(steps).astype(np.int8), scales


@dataclass(frozen=True)
class Block:
    """Rows as they are stored. ids: (n,). vectors: (n, d) float32, or int8 with scales (n,). cells: (n,), if any."""

    ids: Ids
    vectors: NDArray[Any]
    scales: Vectors | None = None
    cells: Cells | None = None


class Scan:
    """Rows of vectors, in memory, that come and go. Not thread-safe.

    centres: of the cells that the rows' numbers mean; None: there are no cells.
    """

    def __init__(self, dimensions: int, *, int8: bool = False, centres: Centres | None = None) -> None:
        self.centres = centres
        self._rows: dict[str, NDArray[Any]] = {
            "ids": np.empty(0, np.int64),
            "vectors": np.empty((0, dimensions), np.int8 if int8 else np.float32),
            "scales": np.empty(0, np.float32),
            "cells": np.empty(0, np.int32),
            "alive": np.empty(0, np.bool_),
        }
        self._int8 = int8
        self._level = binding.available().level  # None: no kernels
        self._count = 0
        self._lists: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return int(np.count_nonzero(self._row("alive")))

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all."""
        for name, old in self._rows.items():
            if rows > len(old):
                new = np.empty((rows, *old.shape[1:]), old.dtype)
                new[: self._count] = old[: self._count]
                self._rows[name] = new

    def append(self, block: Block) -> None:
        """Add rows behind those that are there, whatever their cells."""
        first, end = self._count, self._count + len(block.ids)
        if end > len(self._rows["ids"]):
            self.reserve(max(end, self._count + self._count // 2))
        self._count = end
        self._put(slice(first, end), block)

    def lay(self, cells: Cells, blocks: Iterable[Block]) -> None:
        """Fill an empty scan so that the rows of a cell lie in one piece, which is read much faster than rows apart.

        cells: (n,) of all the blocks' rows, in their order.
        """
        places = np.empty(len(cells), np.int64)
        places[np.argsort(cells, kind="stable")] = np.arange(len(cells))
        self.reserve(len(cells))
        self._count, first = len(cells), 0
        for block in blocks:
            self._put(places[first : first + len(block.ids)], block)
            first += len(block.ids)

    def _put(self, places: slice | NDArray[np.int64], block: Block) -> None:
        self._row("ids")[places], self._row("vectors")[places] = block.ids, block.vectors
        self._row("scales")[places] = 1 if block.scales is None else block.scales
        self._row("cells")[places] = NO_CELL if block.cells is None else block.cells
        self._row("alive")[places] = True
        self._lists = None

    def remove(self, ids: Ids) -> None:
        """Take rows out; their numbers are overwritten."""
        gone = np.isin(self._row("ids"), ids)
        self._row("alive")[gone] = False
        self._row("vectors")[gone] = 0

    def best(
        self, query: Vectors, limit: int, allowed: Ids | None = None, *, exact: bool = False
    ) -> list[tuple[int, float]]:
        """The `limit` ids of the greatest inner products with query (d,), best first, equal ones by their id.

        allowed: only these ids, all of which are compared; None: any. exact: compare all where there are cells, too.
        """
        query = np.ascontiguousarray(query, np.float32)
        alive = self._row("alive")
        rows: NDArray[np.int64] | None
        if allowed is not None:
            rows = np.flatnonzero(alive & np.isin(self._row("ids"), allowed))
        elif exact or self.centres is None:
            rows = None if alive.all() else np.flatnonzero(alive)
        else:
            rows = self._probed(query, self.centres)
            rows = rows[alive[rows]]
        ids, scores = self._nearest(query, limit, rows)
        return [(int(name), float(score)) for name, score in zip(ids, scores, strict=True)]

    def arrange(self, *, show: bool = False) -> Centres:
        """Part the rows into cells, with as many probes a search as RECALL needs. show: progress on stderr."""
        alive = np.flatnonzero(self._row("alive"))
        cells = number_of_cells(len(alive))
        points = train(self._floats(alive[sample(len(alive), cells)]), cells, show=show)
        for start in range(0, self._count, _BLOCK):
            rows = slice(start, start + _BLOCK)
            self._row("cells")[rows] = assign(self._floats(rows), points)
        self._lists = None
        asked = [self._floats([row])[0] for row in alive[:: max(1, len(alive) // _ASKED)]]
        expected = [self.best(query, 11, exact=True)[1:] for query in asked]  # without the row itself
        probes = _FEWEST_PROBES
        while True:
            self.centres = Centres(points, min(probes, cells), len(alive))
            found = [self.best(query, 11) for query in asked]
            hits = sum(len(set(want) & set(got)) for want, got in zip(expected, found, strict=True))
            if probes >= cells or hits >= RECALL * sum(map(len, expected)):
                return self.centres
            probes = probes * 3 // 2

    def cells(self) -> tuple[Ids, Cells]:
        """The ids and cells of all rows that are there, by rising id."""
        alive = self._row("alive")
        ids, cells = self._row("ids")[alive], self._row("cells")[alive]
        order = np.argsort(ids)
        return ids[order], cells[order]

    def _probed(self, query: Vectors, centres: Centres) -> NDArray[np.int64]:
        """The rows of the cells nearest to a query, and those that have none."""
        if self._lists is None:
            order = np.argsort(self._row("cells"), kind="stable")
            starts = np.searchsorted(self._row("cells")[order], np.arange(len(centres.points) + 1))
            self._lists = order, starts
        order, starts = self._lists
        chosen = nearest_cells(query, centres)
        return np.concatenate([order[: starts[0]], *(order[starts[cell] : starts[cell + 1]] for cell in chosen)])

    def _nearest(self, query: Vectors, limit: int, rows: NDArray[np.int64] | None) -> tuple[Ids, Vectors]:
        scales = self._row("scales") if self._int8 else None
        ids, vectors = self._row("ids"), self._row("vectors")
        if self._level is not None:
            return scanning.nearest(self._level, settings.threads(), ids, vectors, scales, query, limit, rows)
        compared = np.arange(len(ids)) if rows is None else rows
        parts = [compared[start : start + _BLOCK] for start in range(0, len(compared), _BLOCK)]
        scores = np.concatenate([np.empty(0, np.float32), *(self._floats(part) @ query for part in parts)])
        order = np.lexsort((ids[compared], -scores))[:limit]
        return ids[compared[order]], scores[order]

    def _floats(self, rows: Any) -> Vectors:
        """(rows, d) as float32."""
        found: NDArray[Any] = self._row("vectors")[rows]
        return np.asarray(found * self._row("scales")[rows][:, None] if self._int8 else found, np.float32)

    def _row(self, name: str) -> NDArray[Any]:
        return self._rows[name][: self._count]
