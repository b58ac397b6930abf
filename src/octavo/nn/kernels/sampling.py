"""The sums behind softmax(logits / temperature), for which numpy would go over a vocabulary seven times."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from octavo.nn.kernels.binding import available, library
from octavo.nn.kernels.indices import address
from octavo.nn.kernels.tables.codes import LEVELS

CHUNK = 256
"""WEIGHTS in kernels.h: so many weights are summed together."""
Floats = NDArray[np.float32]


def sum_weights(level: str, logits: Floats, temperature: float) -> tuple[float, Floats]:
    """The largest logit, and of each CHUNK of logits, (n,), the sum of exp((logit - largest) / temperature).

    Weights below exp(-87) count as that. Raises ValueError for what is no contiguous float32 of one dimension.
    """
    if logits.dtype != np.float32 or logits.ndim != 1 or not logits.size or not logits.flags.c_contiguous:
        raise ValueError(f"logits must be contiguous float32 of one dimension, not {logits.dtype} {logits.shape}")
    sums = np.empty(-(-logits.size // CHUNK), np.float32)
    places = address(logits), logits.size, 1 / temperature, address(sums)
    return library().octavo_sum_weights(LEVELS[level], *places), sums


@functools.cache
def level_of_sums() -> str | None:
    """The level to sum at; None where the kernels cannot run."""
    return available().level
