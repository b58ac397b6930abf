"""The `Runner` seam: one step of a model for many rows at once, whatever computes it.

A row is one sequence's next tokens. The runner owns the KV memory, in blocks of `BLOCK_SIZE` positions; which row may
use which block is the engine's business (`generate/blocks.py`). A row's result is bitwise independent of the other rows
in the step and of how its tokens were cut into steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.nn.config import TransformerConfig

BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to run for one sequence.

    tokens: (n,) int32, n >= 1, at positions start .. start + n - 1; keys and values of all positions before `start` are
    already in the row's blocks. blocks: block ids, position p lives in blocks[p // BLOCK_SIZE]; enough of them. Of
    positions that no layer of the model sees any more the ids mean nothing.
    logits_from: logits are wanted for tokens[logits_from:]; n - 1 is the last only, n is none.
    """

    tokens: NDArray[np.int32]
    start: int
    blocks: Sequence[int]
    logits_from: int


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

    def refresh(self) -> None:
        """Take over weights that changed since the last step."""
        ...

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        ...
