"""The mask of a constraint: a token that may not come next has no chance, whatever its logit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def keep_allowed(logits: NDArray[np.float32], allowed: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Set the logits of all other tokens to -inf. logits, allowed: (vocab_size,)."""
    return np.where(allowed, logits, np.float32(-np.inf))
