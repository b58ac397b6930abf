"""An inverted file (Sivic and Zisserman 2003): vectors parted into cells around centres; a query looks into few.

The centres are spherical k-means over a sample. Nothing is compressed: within the cells that are looked into, every
vector is compared as an exact search does it, so what is missed is only what lies in other cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from octavo.progress import track
from octavo.retrieve.stores.store import Vectors

Cells = NDArray[np.int32]
WORTHWHILE: Final = 100_000
"""Vectors below which all are compared: a few milliseconds' work."""
GROWTH: Final = 4
"""Centres are made anew when there are so many times the vectors that they were made from."""
_SAMPLE_A_CELL = 40
_ROUNDS = 6
_BLOCK = 1 << 12


@dataclass(frozen=True)
class Centres:
    """points: (cells, d) of length 1. probes: cells that a search looks into. trained_on: vectors there were then."""

    points: Vectors
    probes: int
    trained_on: int


def is_due(count: int, centres: Centres | None) -> bool:
    """Whether `count` vectors should have centres, or new ones."""
    return count >= (WORTHWHILE if centres is None else GROWTH * centres.trained_on)


def number_of_cells(count: int) -> int:
    """How many cells for `count` vectors."""
    return max(1, round(2 * math.sqrt(count)))


def sample(count: int, cells: int) -> NDArray[np.int64]:
    """Which of `count` vectors are enough to find so many centres, rising."""
    size = min(count, _SAMPLE_A_CELL * cells)
    return np.sort(np.random.default_rng(0).choice(count, size, replace=False)).astype(np.int64)


def train(vectors: Vectors, cells: int, *, show: bool = False) -> Vectors:
    """(cells, d) centres of length 1 for a sample of vectors (n, d), n >= cells, the same each time."""
    random = np.random.default_rng(0)
    centres = _unit(vectors[random.choice(len(vectors), cells, replace=False)])
    with track(_ROUNDS, "Parting vectors into cells", unit="rounds", show=show) as work:
        for _ in range(_ROUNDS):
            nearest = assign(vectors, centres)
            order = np.argsort(nearest, kind="stable")
            filled, starts = np.unique(nearest[order], return_index=True)
            centres[filled] = _unit(np.add.reduceat(vectors[order], starts, axis=0))
            empty = np.setdiff1d(np.arange(cells), filled)
            centres[empty] = _unit(vectors[random.choice(len(vectors), len(empty))])
            work.advance(1)
    return centres


def assign(vectors: Vectors, points: Vectors) -> Cells:
    """(n,) the cell of each vector (n, d): the centre of the greatest inner product."""
    cells = np.empty(len(vectors), np.int32)
    for start in range(0, len(vectors), _BLOCK):
        cells[start : start + _BLOCK] = (vectors[start : start + _BLOCK] @ points.T).argmax(axis=1)
    return cells


def nearest_cells(query: Vectors, centres: Centres) -> Cells:
    """The cells to look into for a query (d,)."""
    scores = centres.points @ query
    return np.argpartition(-scores, centres.probes - 1)[: centres.probes].astype(np.int32)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)
