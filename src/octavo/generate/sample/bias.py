"""Logit bias: a number added to chosen tokens' logits (OpenAI's `logit_bias`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def add_bias(logits: NDArray[np.float32], bias: Mapping[int, float]) -> NDArray[np.float32]:
    """Add bias[id] to logits[id]. logits: (vocab_size,)."""
    result = logits.copy()
    result[list(bias)] += np.fromiter(bias.values(), np.float32, len(bias))
    return result
