"""One completion inside the engine: it chooses the tokens of its answer and tells the reader of them.

The engine's thread alone touches it, but for `events` and `cancelled` (a flag), which the stream shares.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.generate.blocks import START
from octavo.generate.lm import Delta, Finished, FinishReason, Request, Started, TokenLogprob
from octavo.generate.matcher import Matcher
from octavo.generate.propose import NO_DRAFT, Draft, Text
from octavo.generate.propose.trust import Trust
from octavo.generate.sample import Sampler
from octavo.generate.sample.draw import log_total
from octavo.generate.scheduler import Branch
from octavo.generate.stopping import StopMatcher
from octavo.generate.tasks.scoring import PromptScores, token_logprob, top_logprobs
from octavo.generate.tasks.stream import Events
from octavo.generate.tasks.thinking import ThinkingBudget
from octavo.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Limits:
    """When a completion ends: at one of these ids, or after max_tokens sampled ones."""

    stop_ids: frozenset[int]
    max_tokens: int


class Completion:
    """A prompt and the answer to it so far, as a task of the scheduler.

    root, adapter: see `Branch`. draft_tokens: most guesses at its next tokens that are checked in one step.
    """

    width = 1

    def __init__(
        self,
        prompt: Sequence[int],
        request: Request,
        limits: Limits,
        tokenizer: Tokenizer,
        matcher: Matcher | None = None,
        root: bytes = START,
        draft_tokens: int = 0,
        adapter: int = 0,
    ) -> None:
        self.branches = [Branch(list(prompt), root, adapter=adapter)]
        self.priority = request.priority
        self.events = Events()
        self.cancelled = False
        self.finished = False
        self._tokens = self.branches[0].tokens
        self._num_prompt = len(self._tokens)
        self._limits = limits
        self._request = request
        self._tokenizer = tokenizer
        self._sampler = Sampler(request.sampling, self._tokens)
        self._stops = StopMatcher(request.stop, keep=request.include_stop)
        self._matcher = matcher
        self._detokenizer = tokenizer.detokenizer(skip_special=request.skip_special, continues=matcher is not None)
        top = request.prompt_logprobs
        self._scores = None if top is None else PromptScores(prompt, top, tokenizer)
        self._prediction = tokenizer.encode(request.prediction, special=False) if request.prediction else ()
        self._trust = Trust(draft_tokens)
        self._budget = None if request.thinking is None else ThinkingBudget(request.thinking, self._tokens, tokenizer)
        self._drafted = self._accepted = 0
        self._started = False
        if limits.max_tokens == 0 and self._scores is None:
            self._finish("length")

    @property
    def tokens_a_step(self) -> int:
        """Few while all logits are wanted, else as many as the runner takes."""
        return PromptScores.tokens_a_step if self._scores is not None else 1 << 30

    def unread(self, branch: Branch) -> int:
        """All tokens but the last need no logits, but for the prompt's scores."""
        return len(self._tokens) - 1 if self._scores is None else self._scores.unread

    def started(self, cached: int) -> None:
        """The engine starts it; `cached` tokens of the prompt were at hand."""
        if not self._started:
            self._started = True
            self.events.add(Started(self._num_prompt, cached, tuple(self._tokens[: self._num_prompt])))

    def to_guess(self, branch: Branch) -> Text | None:
        """As many tokens as have been worth guessing, and as may still come."""
        if self._scores is not None:
            return None
        most = min(self._trust.limit(), self._limits.max_tokens - self._num_sampled - 1)
        if most <= 0:
            return None
        return Text(branch, self._tokens, most, self._request.sampling, self._prediction, self._num_prompt)

    def logits_from(self, branch: Branch, count: int) -> int:
        """From which of the next `count` tokens on logits are wanted: the last one and its draft, or all to score."""
        if self._scores is not None:
            return min(count, max(0, self._scores.unread - branch.computed))
        return branch.pending - 1 if count >= branch.pending else count

    def take(self, branch: Branch, logits: NDArray[np.float32]) -> None:
        """More tokens have run. logits: (wanted, vocab_size)."""
        if self._scores is not None and len(logits):
            self._scores.read(branch.computed - len(logits), logits)
        if branch.pending:
            return
        if self._scores is not None:
            self.events.add(self._scores.scores())
            self._scores = None
        if self._limits.max_tokens:
            self._follow(branch, logits[-1 - len(branch.draft.tokens) :])
        else:
            self._finish("length")

    def fail(self, error: BaseException) -> None:
        """End with an error that the reader of the stream will see raised."""
        self.finished = True
        self.events.add(error)

    def deliver(self) -> None:
        """Let the reader hear what was said."""
        self.events.deliver()

    def cancel(self) -> None:
        """End at once, keeping what was said."""
        self._finish("cancelled")

    @property
    def _num_sampled(self) -> int:
        return len(self._tokens) - self._num_prompt

    def _follow(self, branch: Branch, logits: NDArray[np.float32]) -> None:
        """Choose the next token, and one more after each guess that was right. logits: (1 + guesses, vocab_size)."""
        draft, branch.draft = branch.draft, NO_DRAFT
        if not draft.tokens:
            self._choose(logits[0], draft, ())
            return
        self._drafted += len(draft.tokens)
        before, at = self._accepted, -1
        while True:
            following = draft.after(at)
            self._choose(logits[at + 1], draft, following)
            right = [guess for guess in following if draft.tokens[guess] == self._tokens[-1]]
            if self.finished or not right:
                break
            at = right[0]
            branch.stood.append(at)
            branch.computed += 1
        self._trust.told(len(draft.tokens), self._accepted - before, draft.depth)

    def _choose(self, logits: NDArray[np.float32], draft: Draft, guesses: Sequence[int]) -> None:
        """guesses: which of the draft are made here."""
        allowed = None if self._matcher is None else self._matcher.allowed()
        if allowed is not None and not allowed.any():
            self._finish("stop")
            return
        if self._budget is not None and (forced := self._budget.forced()) is not None:
            allowed = np.zeros(logits.size, np.bool_)
            allowed[forced] = True
        if self._num_sampled < self._request.min_tokens and self._limits.stop_ids:
            allowed = _without(self._limits.stop_ids, np.ones(logits.size, np.bool_) if allowed is None else allowed)
        if not guesses:
            self._append(self._sampler.choose(logits, allowed), logits)
            return
        drawn = () if draft.probabilities is None else draft.probabilities
        judged = [(draft.tokens[guess], drawn[guess]) for guess in guesses] if len(drawn) else ()
        token = self._sampler.choose(logits, allowed, judged)
        self._accepted += any(draft.tokens[guess] == token for guess in guesses)
        self._append(token, logits)

    def _append(self, token: int, logits: NDArray[np.float32]) -> None:
        self._tokens.append(token)
        if token in self._limits.stop_ids:
            shown = self._request.include_stop and token in self._request.stop_token_ids
            if shown:
                self.events.add(Delta(self._detokenizer.push(token), (token,), self._logprobs(token, logits)))
            self._finish("stop", token)
            return
        if self._matcher is not None:
            self._matcher.accept(token)
        text = self._detokenizer.push(token)
        if self._num_sampled > self._request.min_tokens or not self._request.min_tokens:
            text = self._stops.push(text)
        self.events.add(Delta(text, (token,), self._logprobs(token, logits)))
        if self._stops.matched is not None:
            self._finish("stop", self._stops.matched)
        elif self._matcher is not None and self._matcher.ended:
            self._finish("stop")
        elif self._num_sampled >= self._limits.max_tokens:
            self._finish("length")

    def _finish(self, reason: FinishReason, stop: str | int | None = None) -> None:
        if self.finished:
            return
        self.finished = True
        self.started(0)  # one that ends before its turn has begun, too
        rest = self._stops.push(self._detokenizer.flush())
        rest += self._stops.flush()
        if rest:
            self.events.add(Delta(rest, ()))
        if self._stops.matched is not None:
            reason, stop = "stop", self._stops.matched
        counts = (self._num_prompt, self._num_sampled)
        self.events.add(Finished(reason, *counts, stop, self._drafted, self._accepted))

    def _logprobs(self, token: int, logits: NDArray[np.float32]) -> tuple[TokenLogprob, ...]:
        if self._request.logprobs is None:
            return ()
        total = log_total(logits)
        top = top_logprobs(logits, total, self._request.logprobs, self._tokenizer)
        return (token_logprob(token, logits, total, self._tokenizer, top),)


def _without(ids: Collection[int], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those allowed but `ids`; unless nothing would be left."""
    others = allowed.copy()
    others[list(ids)] = False
    return others if others.any() else allowed
