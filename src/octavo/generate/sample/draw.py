"""Drawing a token from softmax(logits / temperature).

Unusual: the sum up to each token is not made for a whole vocabulary. A chunk is drawn first, then a token in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from octavo.generate.sample.temperature import COLDEST
from octavo.nn.kernels.sampling import CHUNK, draw_weight, level_of_sums, sum_weights

Logits = NDArray[np.float32]
NEVER = np.float32(-80)
"""Below the largest logit: so unlikely that its weight is lost in the sum. Smaller numbers would be slow denormals."""


def draw(logits: Logits, random: np.random.Generator, temperature: float = 1.0) -> int:
    """An index drawn from softmax(logits / temperature), logits (n,) with -inf for those that cannot be.

    In C where the kernels are built.
    """
    level = level_of_sums()
    if level is not None:
        return draw_weight(level, logits, max(temperature, COLDEST), 1 - random.random())
    largest, sums = chunk_sums(logits, temperature)
    totals = np.cumsum(sums, dtype=np.float64)
    place = _place(totals, random)
    chunk = int(np.searchsorted(totals, place))
    inside = weights_of(logits[chunk * CHUNK : (chunk + 1) * CHUNK], largest, temperature)
    return chunk * CHUNK + _found(inside, place - (float(totals[chunk - 1]) if chunk else 0.0))


def draw_weighted(weights: NDArray[np.floating], random: np.random.Generator) -> int:
    """An index drawn in proportion to the weights, (n,), at least 0 and not all 0."""
    totals = np.cumsum(np.add.reduceat(weights, np.arange(0, weights.size, CHUNK)), dtype=np.float64)
    place = _place(totals, random)
    chunk = int(np.searchsorted(totals, place))
    inside = weights[chunk * CHUNK : (chunk + 1) * CHUNK]
    return chunk * CHUNK + _found(inside, place - (float(totals[chunk - 1]) if chunk else 0.0))


def log_total(logits: Logits) -> float:
    """log(sum(exp(logits))): what log-probabilities are below their logits. logits: (n,). Within 1e-6."""
    largest, sums = chunk_sums(logits)
    return largest + float(np.log(sums.sum(dtype=np.float64)))


def chunk_sums(logits: Logits, temperature: float = 1.0) -> tuple[float, Logits]:
    """The largest logit, and of each CHUNK of logits, (n,), the sum of exp((logit - largest) / temperature).

    In C where the kernels are built.
    """
    level = level_of_sums()
    if level is not None:
        return sum_weights(level, logits, max(temperature, COLDEST))
    largest = float(logits.max())
    return largest, np.add.reduceat(weights_of(logits, largest, temperature), np.arange(0, logits.size, CHUNK))


def weights_of(logits: Logits, largest: float, temperature: float) -> Logits:
    """exp((logits - largest) / temperature), (n,)."""
    below: Logits = (logits - np.float32(largest)) / np.float32(max(temperature, COLDEST))
    np.maximum(below, NEVER, out=below)
    np.exp(below, out=below)
    return below


def _place(totals: NDArray[np.float64], random: np.random.Generator) -> float:
    """Somewhere in the total; above 0, so that what has no weight is never met."""
    return (1 - random.random()) * float(totals[-1])


def _found(weights: NDArray[np.floating], place: float) -> int:
    """The index at which the weights reach a place; the last one with a weight, where rounding leaves it beyond."""
    sums = np.cumsum(weights, dtype=np.float64)
    return int(np.searchsorted(sums, min(place, float(sums[-1]))))
