"""The `Runner` seam: one step of a model for many rows at once, whatever computes it.

A row is one sequence's next tokens. The runner owns the KV memory, in blocks of `BLOCK_SIZE` positions; which row may
use which block is the engine's business (`generate/blocks.py`). A row's result is bitwise independent of the other rows
in the step and of how its tokens were cut into steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.nn.config import TransformerConfig

BLOCK_SIZE = 16
MAX_TREE = 64
"""Most tokens of a tree beside its first."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to run for one sequence.

    tokens: n >= 1 ids, at positions start .. start + n - 1; keys and values of all positions before `start` are
    already in the row's blocks. blocks: block ids, position p lives in blocks[p // BLOCK_SIZE]; enough of them. Of
    positions that no layer of the model sees any more the ids mean nothing.
    logits_from: logits are wanted for tokens[logits_from:]; n - 1 is the last only, n is none.
    parents: None, or (n,) int32: the tokens are a tree (Miao et al. 2023, arXiv 2305.09781), the index of the token
    that each one follows, which is before it; -1 of the first. A token sees those that lead to it and all before
    `start`, and its position is theirs plus one. Up to MAX_TREE follow the first. Keys and values lie in the order of
    the tokens, as if they were a chain, until `Runner.accept`: blocks suffice for so many.
    adapter: 0 for none, else the number of one that the runner was made with, the first being 1.
    """

    tokens: Sequence[int] | NDArray[np.int32]
    start: int
    blocks: Sequence[int]
    logits_from: int
    parents: NDArray[np.int32] | None = None
    adapter: int = 0

    @property
    def positions(self) -> NDArray[np.int32]:
        """(n,): of the tokens in their sequence. Raises ValueError for parents that make no tree."""
        if self.parents is None:
            return np.arange(self.start, self.start + len(self.tokens), dtype=np.int32)
        return self.start + _depths(self.parents, len(self.tokens))


@dataclass(frozen=True, slots=True)
class StepOutput:
    """logits: (wanted, vocab_size) fp32, the rows' wanted positions one after another, in row order.

    hidden: (wanted, hidden_size) fp32 after the final norm for the same positions, or None when not asked.
    """

    logits: NDArray[np.float32]
    hidden: NDArray[np.float32] | None = None


class Runner(Protocol):
    """Runs a model. Not thread-safe: one thread steps it."""

    config: TransformerConfig
    name: str
    """What computes, for people: 'kernels avx512', 'torch cpu'."""
    num_blocks: int
    """Blocks of KV memory, ids 0 .. num_blocks - 1."""
    max_tokens: int
    """Most tokens that one step takes, over all rows."""

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        """Run the rows' tokens, write their keys and values, return the wanted logits."""
        ...

    def accept(self, row: Row, path: Sequence[int]) -> None:
        """Of a tree that was the last row run in these blocks, keep one chain: its keys and values go where they would
        lie if it had been run alone. path: indices of tokens, the first 0, each the parent of the next.
        """
        ...

    def refresh(self) -> None:
        """Take over weights that changed since the last step."""
        ...

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        ...


def _depths(parents: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """(n,): how many tokens of a tree lead to each."""
    if parents.dtype != np.int32 or parents.shape != (count,) or not 1 <= count <= 1 + MAX_TREE:
        raise ValueError(f"a tree has an int32 parent for each of its 1 to {1 + MAX_TREE} tokens")
    depths = np.zeros(count, np.int32)
    for index, parent in enumerate(parents.tolist()):
        if not (0 <= parent < index if index else parent == -1):
            raise ValueError(f"token {index} of a tree cannot follow token {parent}")
        depths[index] = depths[parent] + 1 if index else 0
    return depths


def check_path(row: Row, path: Sequence[int]) -> None:
    """Raise ValueError unless `path` is a chain from the first token of a tree on."""
    parents = row.parents
    if parents is None or not path or path[0] != 0 or any(not 0 <= at < len(parents) for at in path):
        raise ValueError(f"{list(path)} is no chain from the first token of a tree")
    if any(parents[after] != before for before, after in pairwise(path)):
        raise ValueError(f"{list(path)} is no chain of a tree with the parents {parents.tolist()}")
