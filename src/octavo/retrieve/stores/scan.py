"""Vectors in memory, searched exactly: every one is compared with the query.

int8 keeps a quarter of the bytes: each vector is scaled by its own greatest value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.retrieve.stores.store import Vectors

Ids = NDArray[np.int64]
_BLOCK = 1 << 14
"""Vectors of int8 that are widened at a time."""


def pack_int8(vectors: Vectors) -> tuple[NDArray[np.int8], Vectors]:
    """(n, d) float32 as (n, d) int8 and (n,) float32 scales: vector = int8 * scale, to the nearest step."""
    scales = np.abs(vectors).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
    steps = vectors / np.where(scales == 0, 1, scales)[:, None]
    return np.rint(steps).astype(np.int8), scales


@dataclass(frozen=True)
class Scan:
    """ids: (n,) rising. vectors: (n, d) float32, or int8 with scales (n,)."""

    ids: Ids
    vectors: NDArray[np.float32] | NDArray[np.int8]
    scales: Vectors | None = None

    def best(self, query: Vectors, limit: int, allowed: Ids | None = None) -> list[tuple[int, float]]:
        """The `limit` ids of the greatest inner products with query (d,), best first, equal ones by their id.

        allowed: only these ids, None: all.
        """
        rows = np.arange(len(self.ids)) if allowed is None else np.flatnonzero(np.isin(self.ids, allowed))
        scores = self._scores(query.astype(np.float32), None if allowed is None else rows)
        if limit < len(rows):
            bound = np.partition(scores, len(rows) - limit)[len(rows) - limit]
            kept = np.flatnonzero(scores >= bound)
            rows, scores = rows[kept], scores[kept]
        order = np.lexsort((self.ids[rows], -scores))[:limit]
        return [(int(self.ids[rows[at]]), float(scores[at])) for at in order]

    def _scores(self, query: Vectors, rows: NDArray[np.intp] | None) -> Vectors:
        """(rows,) inner products."""
        vectors = self.vectors if rows is None else self.vectors[rows]
        if self.scales is None:
            return np.asarray(vectors @ query, dtype=np.float32)
        scores = np.empty(len(vectors), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores[block] = vectors[block].astype(np.float32) @ query
        return scores * (self.scales if rows is None else self.scales[rows])
