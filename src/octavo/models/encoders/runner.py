"""The `EncoderRunner` seam: whole texts in, a hidden state for each of their tokens out, whatever computes it.

An encoder keeps nothing between calls, so it has neither blocks nor positions: a row is a text from its first token to
its last. A row's result does not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.errors import ContextLengthError
from octavo.nn.config import TransformerConfig

Floats = NDArray[np.float32]
Weights = Literal["f32", "bf16", "int8"]
"""How an encoder's matrices are kept; int8 has a scale for each 32 numbers, and activations in int8, too."""


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One text. tokens: (n,) ids, 1 <= n <= context_length. types: (n,) token types; None: all 0."""

    tokens: Sequence[int]
    types: Sequence[int] | None = None


class EncoderRunner(Protocol):
    """Runs an encoder. Not thread-safe."""

    config: TransformerConfig
    name: str
    """What computes, for people: 'kernels avx512 int8', 'torch cpu float32'."""

    def encode(self, rows: Sequence[EncoderRow]) -> Floats:
        """(tokens of all rows, hidden_size): the hidden states of each row's tokens, one row after another."""
        ...

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        ...


def lengths_of(rows: Sequence[EncoderRow], config: TransformerConfig) -> list[int]:
    """The rows' lengths in tokens. Raises ContextLengthError for one that is too long."""
    lengths = [len(row.tokens) for row in rows]
    if max(lengths) > config.context_length:
        raise ContextLengthError(
            f"{max(lengths)} tokens are more than the encoder's context of {config.context_length}"
        )
    return lengths
