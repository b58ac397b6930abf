"""Checks of arrays, before C sees them, and of what it answers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError

Int32s = NDArray[np.int32]
Floats = NDArray[np.float32]
UNSET = 2
"""What a step or a text returns when a matrix or a norm was never set."""


def check_floats(values: Floats, *shape: int) -> None:
    """Raise ValueError unless it is contiguous float32 of that shape."""
    if values.dtype != np.float32 or values.shape != shape or not values.flags.c_contiguous:
        raise ValueError(f"expected contiguous float32 of shape {shape}, got {values.dtype} of shape {values.shape}")


def check_indices(array: Int32s, dimensions: int) -> None:
    """Raise ValueError unless it is contiguous int32, at an address of whole numbers, of so many dimensions."""
    flags = array.flags
    if array.dtype != np.int32 or array.ndim != dimensions or not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"expected a contiguous, aligned int32 array of {dimensions} dimensions")


def check_range(what: str, values: Iterable[int], end: int, first: int = 0) -> None:
    """Raise ValueError that names the first value which is not in `first` .. end - 1."""
    for value in values:
        if not first <= value < end:
            raise ValueError(f"{what} {value} is not in {first} .. {end - 1}")


def check_done(status: int, what: str) -> None:
    """Raise ValueError for a model that is not whole, OctavoError for what the system refused, unless all is done."""
    if status == UNSET:
        raise ValueError("not every matrix and norm that a step reads is set")
    if status:
        raise OctavoError(f"the system refused memory or threads for {what}; close programs and try again")
