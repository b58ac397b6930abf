"""Drawing from softmax(logits / temperature), for which numpy would go over a vocabulary seven times."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
from numpy.typing import NDArray

from octavo.nn.kernels.binding import available, level_bit, library
from octavo.nn.kernels.indices import address
from octavo.nn.kernels.tables.interface import DOUBLE

CHUNK = 256
"""WEIGHTS in kernels.h: so many weights are summed together."""
MOST = 4096
"""Of a vocabulary that are likely; where more are, a cut is made with numpy."""
Floats = NDArray[np.float32]
Indices = NDArray[np.int32]


def sum_weights(level: str, logits: Floats, temperature: float) -> tuple[float, Floats]:
    """The largest logit, and of each CHUNK of logits, (n,), the sum of exp((logit - largest) / temperature).

    Weights below exp(-87) count as that. Raises ValueError, as the others do, for what is no contiguous float32 of one
    dimension.
    """
    sums = _sums(logits)
    places = address(logits), logits.size, temperature, address(sums)
    return library().octavo_sum_weights(level_bit(level), *places), sums


def draw_weight(level: str, logits: Floats, temperature: float, part: float) -> int:
    """The index at which those weights, summed up, reach a part of all. part: above 0, at most 1."""
    sums = _sums(logits)
    found: int = library().octavo_draw(level_bit(level), address(logits), logits.size, temperature, part, address(sums))
    return found


def likeliest(level: str, logits: Floats, temperature: float, part: float) -> tuple[Indices, Floats, float] | None:
    """So many of the likeliest, by index, that their weights sum to a part of all: indices, weights, and that sum.

    There are some more than it takes. None where it takes more than MOST.
    """
    sums, ids, weights = _sums(logits), np.empty(MOST, np.int32), np.empty(MOST, np.float32)
    wanted = DOUBLE()
    places = address(sums), ids.ctypes.data, address(weights), ctypes.byref(wanted)
    found = library().octavo_likeliest(level_bit(level), address(logits), logits.size, temperature, part, MOST, *places)
    return None if found < 0 else (ids[:found], weights[:found], wanted.value)


def _sums(logits: Floats) -> Floats:
    if logits.dtype != np.float32 or logits.ndim != 1 or not logits.size or not logits.flags.carray:
        raise ValueError(f"logits must be contiguous float32 of one dimension, not {logits.dtype} {logits.shape}")
    return np.empty(-(-logits.size // CHUNK), np.float32)


@functools.cache
def level_of_sums() -> str | None:
    """The level to sum at; None where the kernels cannot run."""
    return available().level
