"""`DecoderStates`: a decoder as an `EncoderRunner`, for embeddings by the state of a text's last token.

Texts go through the ordinary runner one by one, each from the start of the KV memory, so that kernels, torch and GGUF
files serve as they do for chat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.errors import ContextLengthError
from octavo.models.encoders.runner import EncoderRow, Floats
from octavo.models.runner import BLOCK_SIZE, Row, Runner

MAX_TOKENS = 8192
"""The longest text that there is memory for, where the context is longer."""


class DecoderStates:
    """Implements `EncoderRunner`; the runner has KV memory for one text."""

    def __init__(self, runner: Runner) -> None:
        self.config = runner.config
        self.name = runner.name
        self._runner = runner
        self._longest = min(runner.num_blocks * BLOCK_SIZE, self.config.context_length)

    def encode(self, rows: Sequence[EncoderRow]) -> Floats:
        """As `EncoderRunner.encode`; token types say nothing to a decoder."""
        return np.concatenate([self._states(np.asarray(row.tokens, np.int32)) for row in rows])

    def _states(self, tokens: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Floats:
        if len(tokens) > self._longest:
            raise ContextLengthError(f"{len(tokens)} tokens are more than the {self._longest} that this encoder takes")
        blocks, states = range(-(-len(tokens) // BLOCK_SIZE)), []
        for begin in range(0, len(tokens), self._runner.max_tokens):
            part = tokens[begin : begin + self._runner.max_tokens]
            made = self._runner.step([Row(part, begin, blocks, 0)], hidden=True).hidden
            assert made is not None, "hidden states were asked for"
            states.append(made)
        return np.concatenate(states)

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        self._runner.close()
