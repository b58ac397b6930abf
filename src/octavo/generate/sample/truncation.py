"""Cutting the distribution: top-k (Fan 2018), top-p (Holtzman 2019), min-p (Nguyen 2024), typical-p (Meister 2022).

Each takes logits (n,), whole vocabularies or what earlier cuts left, and returns the indices that it keeps, at least
one; all but typical-p keep the likeliest. Unusual: of a large vocabulary only the tokens near the likeliest are sorted,
as far down as it takes, because sorting all would cost as much time as the model does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from octavo.generate.sample.draw import chunk_sums, weights_of
from octavo.generate.sample.temperature import COLDEST
from octavo.nn.kernels.sampling import level_of_sums, likeliest

Logits = NDArray[np.float32]
Indices = NDArray[np.integer]
SAMPLED, LEAST_RANK = 32, 6
"""One logit of so many says how far down the k largest may lie: its like has more than k above it, most often."""
FEW = 512
"""Logits that are sorted whole."""
DEPTHS = (4.0, 8.0, 16.0, math.inf)
"""How far below the largest logit is looked, in turn, in units of the temperature."""


def keep_top_k(logits: Logits, k: int) -> Indices:
    """The k largest logits, and those equal to the k-th."""
    sample = logits[::SAMPLED]
    rank = 2 * k // SAMPLED + LEAST_RANK
    while rank < sample.size:
        near = np.flatnonzero(logits >= _largest(sample, rank))
        if near.size >= k:
            values = logits[near]
            return near[values >= _largest(values, k)]
        rank *= 4
    return np.flatnonzero(logits >= _largest(logits, k)) if k < logits.size else np.arange(logits.size)


def _largest(values: Logits, rank: int) -> np.float32:
    """The largest of rank 1, and so on."""
    found: np.float32 = np.partition(values, values.size - rank)[values.size - rank]
    return found


def keep_top_p(logits: Logits, p: float, temperature: float = 1.0) -> Indices:
    """The smallest set of likeliest tokens whose probabilities at a temperature sum to at least p, the likeliest first.

    In C where the kernels are built, but for the sorting; what a cut before has left is few, and sorted at once.
    """
    if logits.size <= FEW:
        order = np.argsort(-logits)
        reached = np.cumsum(weights_of(logits[order], float(logits[order[0]]), temperature), dtype=np.float64)
        return order[: int(np.searchsorted(reached, p * float(reached[-1]))) + 1]
    level = level_of_sums()
    found = None if level is None else likeliest(level, logits, max(temperature, COLDEST), p)
    near, weights, wanted = found or _likeliest(logits, p, temperature)
    order = np.argsort(-weights)
    reached = np.cumsum(weights[order], dtype=np.float64)
    return near[order[: int(np.searchsorted(reached, wanted)) + 1]]


def _likeliest(logits: Logits, p: float, temperature: float) -> tuple[Indices, Logits, float]:
    largest, sums = chunk_sums(logits, temperature)
    wanted = p * float(sums.sum(dtype=np.float64))
    for depth in DEPTHS:
        near = np.flatnonzero(logits > np.float32(largest - depth * max(temperature, COLDEST)))
        weights = weights_of(logits[near], largest, temperature)
        if weights.sum(dtype=np.float64) >= wanted:
            break
    return near, weights, wanted


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
