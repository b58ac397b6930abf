"""Cutting the distribution: top-k (Fan 2018), top-p (Holtzman 2019), min-p (Nguyen 2024), typical-p (Meister 2022).

Each sets the cut tokens' logits to -inf and keeps at least one token, all but typical-p the likeliest. Top-k and top-p
sort no more than the tokens that they could keep.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def keep_top_k(logits: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Keep the k largest logits, and those equal to the k-th. logits: (vocab_size,)."""
    if k >= logits.size:
        return logits
    threshold = np.partition(logits, logits.size - k)[logits.size - k]
    return np.where(logits < threshold, np.float32(-np.inf), logits)


def keep_top_p(logits: NDArray[np.float32], p: float) -> NDArray[np.float32]:
    """Keep the smallest set of likeliest tokens whose probabilities sum to at least p. logits: (vocab_size,)."""
    weights = np.exp(logits - logits.max(), dtype=np.float64)
    probabilities = weights / weights.sum()
    # All tokens below (1 - p) / n together weigh less than 1 - p, so the nucleus lies among the others.
    candidates = np.nonzero(probabilities >= (1 - p) / logits.size)[0]
    order = candidates[np.argsort(-probabilities[candidates], kind="stable")]
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = order[: max(1, int(np.searchsorted(before, p)))]
    result = np.full_like(logits, -np.inf)
    result[kept] = logits[kept]
    return result


def keep_min_p(logits: NDArray[np.float32], min_p: float) -> NDArray[np.float32]:
    """Keep the tokens at least min_p times as likely as the likeliest. logits: (vocab_size,)."""
    threshold = logits.max() + np.float32(math.log(min_p))
    return np.where(logits < threshold, np.float32(-np.inf), logits)


def keep_typical_p(logits: NDArray[np.float32], p: float) -> NDArray[np.float32]:
    """Keep the tokens whose surprise is nearest to the expected one, of total probability p. logits: (vocab_size,)."""
    weights = np.exp(logits - logits.max(), dtype=np.float64)
    probabilities = weights / weights.sum()
    with np.errstate(divide="ignore"):
        surprise = -np.log(probabilities)
    likely = probabilities > 0
    distance = np.abs(surprise - probabilities[likely] @ surprise[likely])
    order = np.argsort(distance, kind="stable")
    last = min(int(np.searchsorted(np.cumsum(probabilities[order]), p)), logits.size - 1)
    return np.where(distance > distance[order[last]], np.float32(-np.inf), logits)
