"""Temperature: divide the logits; below 1 the likely get likelier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLDEST = 1e-30
"""Below it the quotients leave fp32, and at it the choice is already greedy."""


def apply_temperature(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """logits / temperature, temperature > 0. logits: (vocab_size,)."""
    return logits / np.float32(max(temperature, COLDEST))
