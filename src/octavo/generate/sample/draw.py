"""Drawing a token from softmax(logits).

Unusual: the sum up to each token is not made for a whole vocabulary. A chunk is drawn first, then a token in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHUNK = 256
NEVER = np.float32(-80)
"""Below the largest logit: so unlikely that its weight is lost in the sum. Smaller numbers would be slow denormals."""


def weights_of(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """exp(logits - the largest), (n,)."""
    weights: NDArray[np.float32] = np.exp(np.maximum(logits - logits.max(), NEVER))
    return weights


def draw(logits: NDArray[np.float32], random: np.random.Generator) -> int:
    """An index drawn from softmax(logits), logits (n,) with -inf for those that cannot be."""
    return draw_weighted(weights_of(logits), random)


def draw_weighted(weights: NDArray[np.floating], random: np.random.Generator) -> int:
    """An index drawn in proportion to the weights, (n,), at least 0 and not all 0."""
    sums = np.cumsum(np.add.reduceat(weights, np.arange(0, weights.size, CHUNK)), dtype=np.float64)
    place = (1 - random.random()) * float(sums[-1])  # above 0, so that what has no weight is never met
    chunk = int(np.searchsorted(sums, place))
    inside = np.cumsum(weights[chunk * CHUNK : (chunk + 1) * CHUNK], dtype=np.float64)
    place = min(place - (float(sums[chunk - 1]) if chunk else 0.0), float(inside[-1]))
    return chunk * CHUNK + int(np.searchsorted(inside, place))
