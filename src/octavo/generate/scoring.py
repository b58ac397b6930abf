"""Scoring inside the engine: reads the log-probability of each token of a text off the logits before it.

A few tokens a step, so that the logits of a long text with a large vocabulary are never all in memory.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.generate.completion import top_logprobs
from octavo.generate.lm import Scores, TokenLogprob
from octavo.generate.sample import log_softmax
from octavo.text.tokenizer import Tokenizer


class Scoring:
    """A text to score; `result` receives the Scores, or an error."""

    tokens_a_step = 64

    def __init__(self, tokens: Sequence[int], top: int, tokenizer: Tokenizer) -> None:
        self.tokens = list(tokens)
        self.computed = 0
        self.blocks: list[int] = []
        self.result: queue.SimpleQueue[Scores | BaseException] = queue.SimpleQueue()
        self.cancelled = False
        self.finished = False
        self._top = top
        self._tokenizer = tokenizer
        self._logprobs: list[float | None] = [None]
        self._tops: list[tuple[TokenLogprob, ...]] = [()]

    @property
    def unread(self) -> int:
        """Only what was read before a preemption."""
        return len(self._logprobs) - 1

    def admitted(self) -> None:
        """Nobody waits for its beginning."""

    def logits_from(self, count: int) -> int:
        """All logits are wanted, but those that were read before a preemption."""
        return min(count, max(0, self.unread - self.computed))

    def take(self, count: int, logits: NDArray[np.float32]) -> None:
        """Read the log-probabilities of the tokens after each of the wanted ones."""
        first = self.computed + self.logits_from(count)
        self.computed += count
        for offset, row in enumerate(logits):
            following = first + offset + 1
            if following < len(self.tokens):
                logprobs = log_softmax(row)
                self._logprobs.append(float(logprobs[self.tokens[following]]))
                self._tops.append(top_logprobs(logprobs, self._top, self._tokenizer))
        if self.computed == len(self.tokens):
            self.finished = True
            self.result.put(Scores(tuple(self.tokens), tuple(self._logprobs), tuple(self._tops)))

    def fail(self, error: BaseException) -> None:
        """End with an error that the caller will see raised."""
        self.finished = True
        self.result.put(error)

    def cancel(self) -> None:
        """End at once: nobody waits for it, or the model is closing."""
        self.fail(OctavoError("the scoring was cancelled"))
