"""Penalties on tokens that were already there.

Repetition (Keskar et al. 2019, arXiv 1909.05858) looks at prompt and answer and divides positive logits, multiplies
negative ones. Presence and frequency (OpenAI) look at the answer only and subtract.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def penalise_repetition(logits: NDArray[np.float32], seen: NDArray[np.int64], penalty: float) -> NDArray[np.float32]:
    """Make the tokens of `seen` less likely where penalty > 1. logits: (vocab_size,); seen: distinct ids."""
    result = logits.copy()
    old = result[seen]
    result[seen] = np.where(old > 0, old / np.float32(penalty), old * np.float32(penalty))
    return result


def penalise_presence(
    logits: NDArray[np.float32], ids: NDArray[np.int64], counts: NDArray[np.float32], presence: float, frequency: float
) -> NDArray[np.float32]:
    """Subtract presence + frequency * count from each token of the answer. ids: distinct; counts: how often each."""
    result = logits.copy()
    result[ids] -= np.float32(presence) + np.float32(frequency) * counts
    return result
