"""Cutting the distribution: top-k (Fan 2018), top-p (Holtzman 2019), min-p (Nguyen 2024), typical-p (Meister 2022).

Each takes logits (n,), whole vocabularies or what earlier cuts left, and returns the indices that it keeps, at least
one; all but typical-p keep the likeliest. Unusual: of a large vocabulary only the tokens near the likeliest are sorted,
as far down as it takes, because sorting all would cost as much time as the model does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from octavo.generate.sample.draw import chunk_sums, weights_of

Logits = NDArray[np.float32]
Indices = NDArray[np.int64]
DEPTHS = (4.0, 8.0, 16.0, math.inf)
"""How far below the largest logit is looked, in turn."""


def keep_top_k(logits: Logits, k: int) -> Indices:
    """The k largest logits, and those equal to the k-th."""
    for near in _near_the_top(logits, float(logits.max())):
        if near.size >= k:
            values = logits[near]
            kept: Indices = near[values >= np.partition(values, values.size - k)[values.size - k]]
            return kept
    return np.arange(logits.size)


def keep_top_p(logits: Logits, p: float) -> Indices:
    """The smallest set of likeliest tokens whose probabilities sum to at least p, the likeliest first."""
    largest, sums = chunk_sums(logits)
    wanted = p * float(sums.sum(dtype=np.float64))
    for near in _near_the_top(logits, largest):
        weights = weights_of(logits[near])
        if weights.sum(dtype=np.float64) >= wanted:
            break
    order = np.argsort(-weights)
    reached = np.cumsum(weights[order], dtype=np.float64)
    return near[order[: int(np.searchsorted(reached, wanted)) + 1]]


def keep_min_p(logits: Logits, min_p: float) -> Indices:
    """The tokens at least min_p times as likely as the likeliest."""
    return np.flatnonzero(logits >= logits.max() + np.float32(math.log(min_p)))


def keep_typical_p(logits: Logits, p: float) -> Indices:
    """The tokens whose surprise is nearest to the expected one, of total probability p."""
    weights = np.exp(logits - logits.max(), dtype=np.float64)
    probabilities = weights / weights.sum()
    likely = probabilities > 0
    surprise = np.full(logits.size, np.inf)
    surprise[likely] = -np.log(probabilities[likely])
    distance = np.abs(surprise - probabilities[likely] @ surprise[likely])
    order = np.argsort(distance, kind="stable")
    last = min(int(np.searchsorted(np.cumsum(probabilities[order]), p)), logits.size - 1)
    return np.flatnonzero(distance <= distance[order[last]])


def _near_the_top(logits: Logits, largest: float) -> Iterator[Indices]:
    """Indices of logits near the largest, more and more; at last all that are not -inf."""
    for depth in DEPTHS:
        yield np.flatnonzero(logits > np.float32(largest - depth))
