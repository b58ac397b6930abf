"""Scoring inside the engine: reads the log-probability of each token of a text off the logits before it.

A few tokens a step, so that the logits of a long text with a large vocabulary are never all in memory.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.generate.blocks import START
from octavo.generate.lm import Scores, TokenLogprob
from octavo.generate.sample.draw import log_total
from octavo.generate.sample.truncation import keep_top_k
from octavo.generate.scheduler import Branch
from octavo.text.tokenizer import Tokenizer

Logits = NDArray[np.float32]


class PromptScores:
    """Collects the log-probability of each token of a text, given those before it; from token number `start` on."""

    tokens_a_step = 64

    def __init__(self, tokens: Sequence[int], top: int, tokenizer: Tokenizer, start: int = 0) -> None:
        before = max(1, start)
        self._tokens = tokens
        self._top = top
        self._tokenizer = tokenizer
        self._logprobs: list[float | None] = [None] * before
        self._tops: list[tuple[TokenLogprob, ...]] = [()] * before
        self._ranks: list[int | None] = [None] * before

    @property
    def unread(self) -> int:
        """How many of the first logits are not needed: those before the start, or read before a preemption."""
        return len(self._logprobs) - 1

    @property
    def complete(self) -> bool:
        """Whether each token has its score."""
        return len(self._logprobs) == len(self._tokens)

    def read(self, first: int, logits: NDArray[np.float32]) -> None:
        """logits: (n, vocab_size), of the tokens from number `first`, the first unread one, on."""
        assert first == self.unread, "logits are read in order, once"
        for row, following in zip(logits, self._tokens[first + 1 :], strict=False):
            total = log_total(row)
            self._logprobs.append(float(row[following]) - total)
            self._tops.append(top_logprobs(row, total, self._top, self._tokenizer))
            self._ranks.append(1 + int((row > row[following]).sum()))

    def scores(self) -> Scores:
        """All of them."""
        return Scores(tuple(self._tokens), tuple(self._logprobs), tuple(self._tops), tuple(self._ranks))


class Scoring:
    """A text to score from token number `start` on; `result` receives the Scores, or an error."""

    width = 1

    def __init__(
        self,
        tokens: Sequence[int],
        top: int,
        tokenizer: Tokenizer,
        root: bytes = START,
        adapter: int = 0,
        *,
        start: int = 0,
    ) -> None:
        self.branches = [Branch(list(tokens), root, adapter=adapter)]
        self.priority = 0
        self.result: queue.SimpleQueue[Scores | BaseException] = queue.SimpleQueue()
        self.cancelled = False
        self.finished = False
        self._scores = PromptScores(tokens, top, tokenizer, start)

    @property
    def tokens_a_step(self) -> int:
        """A few with logits, or all that need none."""
        return max(PromptScores.tokens_a_step, self._scores.unread - self.branches[0].computed)

    def unread(self, branch: Branch) -> int:
        """What is before the start, or was read before a preemption."""
        return self._scores.unread

    def started(self, cached: int) -> None:
        """Nobody waits for its beginning."""

    def to_guess(self, branch: Branch) -> None:
        """Nothing: its tokens are known."""

    def logits_from(self, branch: Branch, count: int) -> int:
        """All logits are wanted, but those that were read before a preemption."""
        return min(count, max(0, self._scores.unread - branch.computed))

    def take(self, branch: Branch, logits: NDArray[np.float32]) -> None:
        """Read the log-probabilities of the tokens after each of the wanted ones."""
        if len(logits):
            self._scores.read(branch.computed - len(logits), logits)
        if not branch.pending:
            self.finished = True
            self.result.put(self._scores.scores())

    def fail(self, error: BaseException) -> None:
        """End with an error that the caller will see raised."""
        self.finished = True
        self.result.put(error)

    def deliver(self) -> None:
        """Nothing: its one result is at hand when it ends."""

    def cancel(self) -> None:
        """End at once: nobody waits for it, or the model is closing."""
        self.fail(OctavoError("the scoring was cancelled"))


def token_logprob(
    token: int, logits: Logits, total: float, tokenizer: Tokenizer, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    """One token with its log-probability. logits: (vocab_size,). total: their `log_total`."""
    raw = tokenizer.token_bytes(token)
    return TokenLogprob(token, raw.decode("utf-8", "replace"), raw, float(logits[token]) - total, top)


def top_logprobs(logits: Logits, total: float, count: int, tokenizer: Tokenizer) -> tuple[TokenLogprob, ...]:
    """The `count` likeliest tokens, likeliest first. logits: (vocab_size,). total: their `log_total`."""
    if count == 0:
        return ()
    near = keep_top_k(logits, count)
    order = near[np.argsort(-logits[near], kind="stable")][:count]
    return tuple(token_logprob(token, logits, total, tokenizer) for token in order.tolist())
