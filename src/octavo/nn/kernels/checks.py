"""Checks of arrays, before C sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octavo.nn.kernels.tables.codes import MAX_TREE

Int32s = NDArray[np.int32]
Floats = NDArray[np.float32]


def check_floats(values: Floats, *shape: int) -> None:
    """Raise ValueError unless it is contiguous float32 of that shape."""
    if values.dtype != np.float32 or values.shape != shape or not values.flags.c_contiguous:
        raise ValueError(f"expected contiguous float32 of shape {shape}, got {values.dtype} of shape {values.shape}")


def check_indices(array: Int32s | None, dimensions: int) -> None:
    """Raise ValueError unless it is None or contiguous int32, at an address of whole numbers, of so many dimensions."""
    if array is None:
        return
    flags = array.flags
    if array.dtype != np.int32 or array.ndim != dimensions or not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"expected a contiguous, aligned int32 array of {dimensions} dimensions")


def tree_slots(rows: Int32s, positions: Int32s, parents: Int32s) -> Int32s:
    """Where the keys and values of a step's tokens go. Raises ValueError for parents that make no tree."""
    index = np.arange(len(rows), dtype=np.int32)
    if not len(rows) == len(positions) == len(parents) or np.any(parents > index):
        raise ValueError("a token of a tree follows one before it")
    first = np.maximum.accumulate(np.where(np.diff(rows, prepend=-1) != 0, index, 0))
    inside = parents >= 0
    wrong = (inside != inside[first]) | (parents < -1) | inside & ((parents < first) | (index - first > MAX_TREE))
    grown = np.where(parents == index, 0, 1)
    wrong |= inside & ((parents == index) != (first == index))
    wrong |= inside & (positions != positions[np.maximum(parents, 0)] + grown)
    if np.any(wrong):
        raise ValueError(f"token {int(np.argmax(wrong))} does not fit in a tree of up to {MAX_TREE} after its first")
    return np.where(inside, positions[first] + index - first, positions).astype(np.int32)


def check_range(what: str, values: Int32s, end: int) -> None:
    """Raise ValueError that names the first value which is not in 0 .. end - 1."""
    if values.size and (int(values.min()) < 0 or int(values.max()) >= end):
        wrong: Sequence[int] = [value for value in values.ravel().tolist() if not 0 <= value < end]
        raise ValueError(f"{what} {wrong[0]} is not in 0 .. {end - 1}")
