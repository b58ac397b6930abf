"""A step's indices: laid out as C reads them, and, when C has refused them, what is wrong in words."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from octavo.nn.kernels.checks import Int32s, check_range
from octavo.nn.kernels.tables.codes import MAX_TREE


@dataclass(slots=True)
class Indices:
    """What a step runs. tokens, rows, positions: (n,): ids; each token's row of `tables`; places in the sequence, one
    row's tokens together and ascending. tables: each row's block ids. wanted: ascending indices into the tokens.

    parents: (n,): in a row that is a tree, the index of the token that each one follows, and of the first its own; -1
    in the others. A tree's keys and values lie in the order of its tokens, until `KernelModel.move`.
    adapters: (n,): which one each token has, -1 for none. embedded: (n,): which row of the step's embeddings a token
    has in place of its id's, -1 for none.
    """

    tokens: Sequence[int]
    rows: Sequence[int]
    positions: Sequence[int]
    tables: Sequence[Sequence[int]]
    wanted: Sequence[int]
    parents: Sequence[int] | None = None
    adapters: Sequence[int] | None = None
    embedded: Sequence[int] | None = None


def laid_out(indices: Indices) -> tuple[array[int], tuple[int, ...], list[int | None]]:
    """All as int32 in one array, for each array costs as much time as checking it; its sizes; where each part lies.

    In the order of `binding.Step`. Raises ValueError for what is no int32, for parts that do not fit each other and for
    parents that make no tree.
    """
    given = indices
    numbers: list[int] = []
    count, width = len(given.tokens), max(map(len, given.tables), default=0)
    begins: list[int | None] = []
    slots = None if given.parents is None else tree_slots(given.rows, given.positions, given.parents)
    for part in (given.tokens, given.rows, given.positions, slots, given.adapters, given.parents, given.embedded):
        begins.append(None if part is None else len(numbers))
        if part is not None:
            if len(part) != count:
                raise ValueError("a step has a row and a position for each token, and of all else as many")
            numbers.extend(part)
    if slots is None:
        begins[3] = begins[2]
    embedded = begins.pop()
    begins.append(len(numbers))
    for table in given.tables:
        numbers.extend(table)
        numbers.extend([0] * (width - len(table)))
    begins += [len(numbers), embedded]
    numbers.extend(given.wanted)
    try:
        memory = array("i", numbers)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"an index of the step is no int32: {error}") from None
    start, _ = memory.buffer_info()
    places = [None if begin is None else start + memory.itemsize * begin for begin in begins]
    return memory, (count, len(given.wanted), len(given.tables), width), places


def explain(indices: Indices, shape: Any, most: int, reach: int, embeddings: int) -> NoReturn:
    """Raise the ValueError that says which index is wrong. shape: a `binding.Shape`. most: tokens of a step.

    reach: how many blocks a row may have. embeddings: how many the step has.
    """
    if not 1 <= len(indices.tokens) <= most:
        raise ValueError(f"a step takes 1 to {most} tokens with a row and a position each")
    slots = indices.positions
    if indices.parents is not None:
        slots = tree_slots(indices.rows, indices.positions, indices.parents)
    check_range("token id", indices.tokens, shape.vocab_size)
    check_range("row", indices.rows, len(indices.tables))
    check_range("position", indices.positions, shape.context_length)
    check_range("position", slots, 16 * min(reach, max(map(len, indices.tables), default=0)))
    check_range("block id", (block for table in indices.tables for block in table), shape.num_blocks)
    check_range("wanted index", indices.wanted, len(indices.tokens))
    if any(later <= earlier for earlier, later in pairwise(indices.wanted)):
        raise ValueError("wanted indices must ascend")
    check_range("adapter", [number + 1 for number in indices.adapters or ()], shape.num_adapters + 1)  # 0 is none
    check_range("embedding", indices.embedded or (), embeddings, first=-1)
    raise AssertionError("C refuses indices in which nothing is wrong")


def address(values: NDArray[np.float32] | None) -> int | None:
    """Where a contiguous array lies; None for an empty one. A quarter of the time of `values.ctypes.data`."""
    return None if values is None or not values.size else ctypes.addressof(ctypes.c_char.from_buffer(values.data))


def tree_slots(rows: Sequence[int], positions: Sequence[int], parents: Sequence[int]) -> list[int]:
    """Where the keys and values of a step's tokens go. Raises ValueError for parents that make no tree."""
    slots: list[int] = _tree_slots(*(np.asarray(part, np.int32) for part in (rows, positions, parents))).tolist()
    return slots


def _tree_slots(rows: Int32s, positions: Int32s, parents: Int32s) -> Int32s:
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
