"""One completion inside the engine: its tokens, how far they are computed, its blocks, and its events.

The engine's thread alone touches it, but for `events` (a queue) and `cancelled` (a flag), which the stream shares.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.generate.lm import Delta, Event, Finished, FinishReason, Request, Started, TokenLogprob
from octavo.generate.matcher import Matcher
from octavo.generate.sample import Sampler, log_softmax
from octavo.generate.stopping import StopMatcher
from octavo.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Limits:
    """When a completion ends: at one of these ids, or after max_tokens sampled ones."""

    stop_ids: frozenset[int]
    max_tokens: int


class Completion:
    """tokens: prompt and answer so far. computed: how many of them have keys and values in `blocks`."""

    tokens_a_step = 1 << 30  # only the last logits are kept, so the runner's limit is the only one

    def __init__(
        self,
        prompt: Sequence[int],
        request: Request,
        limits: Limits,
        tokenizer: Tokenizer,
        matcher: Matcher | None = None,
    ) -> None:
        self.tokens = list(prompt)
        self.computed = 0
        self.blocks: list[int] = []
        self.events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        self.cancelled = False
        self.finished = False
        self._num_prompt = len(self.tokens)
        self._limits = limits
        self._num_logprobs = request.logprobs
        self._tokenizer = tokenizer
        self._sampler = Sampler(request.sampling, self.tokens)
        self._stops = StopMatcher(request.stop)
        self._matcher = matcher
        self._detokenizer = tokenizer.detokenizer(skip_special=request.skip_special, continues=matcher is not None)
        self._started = False
        if limits.max_tokens == 0:
            self._finish("length")

    @property
    def unread(self) -> int:
        """All tokens but the last need no logits."""
        return len(self.tokens) - 1

    def admitted(self) -> None:
        """The engine starts it; `computed` tokens of the prompt were at hand."""
        if not self._started:
            self._started = True
            self.events.put(Started(self._num_prompt, min(self.computed, self._num_prompt)))

    def logits_from(self, count: int) -> int:
        """From which of the next `count` tokens on logits are wanted: the very last one's only."""
        return count - 1 if self.computed + count == len(self.tokens) else count

    def take(self, count: int, logits: NDArray[np.float32]) -> None:
        """The next `count` tokens have run. logits: (count - logits_from(count), vocab_size)."""
        self.computed += count
        if len(logits):
            self._choose(logits[-1])

    def fail(self, error: BaseException) -> None:
        """End with an error that the reader of the stream will see raised."""
        self.finished = True
        self.events.put(error)

    def cancel(self) -> None:
        """End at once, keeping what was said."""
        self._finish("cancelled")

    def _choose(self, logits: NDArray[np.float32]) -> None:
        allowed = None if self._matcher is None else self._matcher.allowed()
        if allowed is not None and not allowed.any():
            self._finish("stop")
        else:
            self._append(self._sampler.choose(logits, allowed), logits)

    def _append(self, token: int, logits: NDArray[np.float32]) -> None:
        self.tokens.append(token)
        if token in self._limits.stop_ids:
            self._finish("stop", token)
            return
        if self._matcher is not None:
            self._matcher.accept(token)
        text = self._stops.push(self._detokenizer.push(token))
        self.events.put(Delta(text, (token,), self._logprobs(token, logits)))
        if self._stops.matched is not None:
            self._finish("stop", self._stops.matched)
        elif self._matcher is not None and self._matcher.ended:
            self._finish("stop")
        elif len(self.tokens) - self._num_prompt >= self._limits.max_tokens:
            self._finish("length")

    def _finish(self, reason: FinishReason, stop: str | int | None = None) -> None:
        if self.finished:
            return
        self.finished = True
        self.admitted()  # one that ends before its turn has begun, too
        rest = self._stops.push(self._detokenizer.flush())
        rest += self._stops.flush()
        if rest:
            self.events.put(Delta(rest, ()))
        if self._stops.matched is not None:
            reason, stop = "stop", self._stops.matched
        self.events.put(Finished(reason, self._num_prompt, len(self.tokens) - self._num_prompt, stop))

    def _logprobs(self, token: int, logits: NDArray[np.float32]) -> tuple[TokenLogprob, ...]:
        if self._num_logprobs is None:
            return ()
        logprobs = log_softmax(logits)
        top = top_logprobs(logprobs, self._num_logprobs, self._tokenizer)
        return (token_logprob(token, logprobs, self._tokenizer, top),)


class CompletionStream:
    """The reader's end of a completion: its events, from any thread. wake: tells the engine of a cancellation."""

    def __init__(self, completion: Completion, wake: Callable[[], None]) -> None:
        self._completion = completion
        self._wake = wake
        self._ended = False

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        event = self._completion.events.get()
        self._ended = isinstance(event, Finished | BaseException)
        if isinstance(event, BaseException):
            raise event
        return event

    def close(self) -> None:
        """Stop the request; its blocks are free before the next step."""
        self._completion.cancelled = True
        self._wake()


def token_logprob(
    token: int, logprobs: NDArray[np.float64], tokenizer: Tokenizer, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    """One token with its log-probability. logprobs: (vocab_size,)."""
    raw = tokenizer.token_bytes(token)
    return TokenLogprob(token, raw.decode("utf-8", "replace"), raw, float(logprobs[token]), top)


def top_logprobs(logprobs: NDArray[np.float64], count: int, tokenizer: Tokenizer) -> tuple[TokenLogprob, ...]:
    """The `count` likeliest tokens, likeliest first. logprobs: (vocab_size,)."""
    if count == 0:
        return ()
    count = min(count, logprobs.size)
    likeliest = np.argpartition(logprobs, logprobs.size - count)[logprobs.size - count :]
    order = likeliest[np.argsort(-logprobs[likeliest], kind="stable")]
    return tuple(token_logprob(int(token), logprobs, tokenizer) for token in order)
