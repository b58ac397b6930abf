"""Beam search: of the answers kept at each step, the one with the best score of the whole (Lowerre 1976).

`Search` is the method alone, with the rules of the `transformers` library for when a hypothesis is finished and when
none can get better; `BeamCompletion` runs it as a task, its beams side by side in each step. A beam that goes on twice
is forked: the second shares the full blocks of the first and computes the rest of them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from octavo.generate.blocks import START
from octavo.generate.lm import Beams, Delta, Finished, FinishReason, Request, Started
from octavo.generate.sample import log_softmax
from octavo.generate.scheduler import Branch
from octavo.generate.tasks.completion import Limits
from octavo.generate.tasks.stream import Events
from octavo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """tokens: of the answer. score: the sum of their log-probabilities; once finished, over length ** penalty."""

    tokens: tuple[int, ...]
    score: float


class Search:
    """The beams of one answer. `running` go on, `finished` are the best that ended, the best first."""

    def __init__(self, beams: Beams, limits: Limits) -> None:
        self.running = [Hypothesis((), 0.0)]
        self.finished: list[Hypothesis] = []
        self._beams = beams
        self._limits = limits

    def advance(self, logprobs: Sequence[NDArray[np.float64]]) -> list[int]:
        """Take each running hypothesis' (vocab_size,) for its next token. Returns which one each new one continues.

        An empty list: the search is over, and `finished` has its result.
        """
        candidates = self._candidates(logprobs)
        open_, ended = [], []
        for rank, (parent, hypothesis) in enumerate(candidates):
            if not self._ends(hypothesis):
                open_.append((parent, hypothesis))
            elif rank < self._beams.num_beams:
                ended.append(Hypothesis(hypothesis.tokens, self._scored(hypothesis, len(hypothesis.tokens))))
        self.finished = sorted([*self.finished, *ended], key=lambda h: -h.score)[: self._beams.num_beams]
        open_ = open_[: self._beams.num_beams]
        self.running = [hypothesis for _, hypothesis in open_]
        if not open_ or self._is_settled():
            self.running = []
        return [parent for parent, _ in open_] if self.running else []

    def _candidates(self, logprobs: Sequence[NDArray[np.float64]]) -> list[tuple[int, Hypothesis]]:
        """The best continuations, so many that enough are left when those that end are taken away."""
        totals = np.stack([row + beam.score for row, beam in zip(logprobs, self.running, strict=True)])
        vocab_size = totals.shape[1]
        count = min(totals.size, max(2, 1 + len(self._limits.stop_ids)) * self._beams.num_beams)
        best = np.argpartition(totals.ravel(), totals.size - count)[totals.size - count :]
        best = best[np.argsort(-totals.ravel()[best], kind="stable")]
        found = []
        for at in best.tolist():
            parent, token = divmod(at, vocab_size)
            found.append((parent, Hypothesis((*self.running[parent].tokens, token), float(totals[parent, token]))))
        return found

    def _ends(self, hypothesis: Hypothesis) -> bool:
        return hypothesis.tokens[-1] in self._limits.stop_ids or len(hypothesis.tokens) >= self._limits.max_tokens

    def _scored(self, hypothesis: Hypothesis, length: int) -> float:
        return float(hypothesis.score / length**self._beams.length_penalty)

    def _is_settled(self) -> bool:
        """Whether the running ones are given up: early_stopping says when."""
        if len(self.finished) < self._beams.num_beams:
            return False
        early, penalty = self._beams.early_stopping, self._beams.length_penalty
        if early is True:
            return True
        best = self.running[0]
        length = self._limits.max_tokens if early == "never" and penalty > 0 else len(best.tokens)
        return self._scored(best, length) <= self.finished[-1].score


class BeamCompletion:
    """A prompt whose answer is searched for, as a task of the scheduler. All of an answer comes in one Delta."""

    tokens_a_step = 1 << 30

    def __init__(
        self,
        prompt: Sequence[int],
        request: Request,
        beams: Beams,
        limits: Limits,
        tokenizer: Tokenizer,
        root: bytes = START,
        adapter: int = 0,
    ) -> None:
        self.branches = [Branch(list(prompt), root, adapter=adapter)]
        self.width = beams.num_beams
        self.priority = request.priority
        self.events = Events()
        self.cancelled = False
        self.finished = False
        self._prompt = tuple(prompt)
        self._num_answers = beams.num_answers
        self._limits = limits
        self._search = Search(beams, limits)
        self._read: dict[Branch, NDArray[np.float64]] = {}
        self._tokenizer, self._skip_special = tokenizer, request.skip_special
        self._started = False
        if limits.max_tokens == 0:
            self._finish([()], "length")

    def unread(self, branch: Branch) -> int:
        """All but the last token; after a preemption that one too, if its logits were read."""
        return len(branch.tokens) - (branch not in self._read)

    def started(self, cached: int) -> None:
        """The engine starts it."""
        if not self._started:
            self._started = True
            self.events.add(Started(len(self._prompt), cached, self._prompt))

    def to_guess(self, branch: Branch) -> None:
        """Nothing: the beams are not read one after another."""

    def logits_from(self, branch: Branch, count: int) -> int:
        """The last token's only."""
        return count - 1 if count == branch.pending and branch not in self._read else count

    def take(self, branch: Branch, logits: NDArray[np.float32]) -> None:
        """A beam has its logits; when all have, the search goes on."""
        if len(logits):
            self._read[branch] = log_softmax(logits[-1])
        if len(self._read) == len(self.branches):
            parents = self._search.advance([self._read[branch] for branch in self.branches])
            self._read = {}
            if parents:
                self._continue(parents)
            else:
                self._finish([found.tokens for found in self._search.finished[: self._num_answers]])

    def fail(self, error: BaseException) -> None:
        """End with an error that the reader of the stream will see raised."""
        self.finished = True
        self.events.add(error)

    def deliver(self) -> None:
        """Let the reader hear what was said."""
        self.events.deliver()

    def cancel(self) -> None:
        """End at once, without an answer."""
        if not self.finished:
            self._finish([()], "cancelled")

    def _continue(self, parents: Sequence[int]) -> None:
        """The first that continues a beam goes on in its blocks, the others are forks of it."""
        before = [list(branch.tokens) for branch in self.branches]
        kept: set[int] = set()
        following = []
        for parent, hypothesis in zip(parents, self._search.running, strict=True):
            if parent in kept:
                tokens, first = [*before[parent], hypothesis.tokens[-1]], self.branches[0]
                following.append(Branch(tokens, first.root, adapter=first.adapter))
            else:
                kept.add(parent)
                self.branches[parent].tokens.append(hypothesis.tokens[-1])
                following.append(self.branches[parent])
        self.branches = following

    def _finish(self, answers: Sequence[tuple[int, ...]], reason: FinishReason | None = None) -> None:
        """reason None: what each answer's last token says."""
        self.finished = True
        self.started(0)
        (said, finished), *others = (self._ended(tokens, reason) for tokens in answers)
        if said.token_ids:
            self.events.add(said)
        self.events.add(replace(finished, others=tuple(others)))

    def _ended(self, tokens: tuple[int, ...], reason: FinishReason | None) -> tuple[Delta, Finished]:
        """An answer's events."""
        if reason is None:
            reason = "stop" if tokens[-1] in self._limits.stop_ids else "length"
        stop = tokens[-1] if reason == "stop" else None
        shown = tokens if stop is None else tokens[:-1]
        detokenizer = self._tokenizer.detokenizer(skip_special=self._skip_special)
        text = "".join(map(detokenizer.push, shown)) + detokenizer.flush()
        return Delta(text, shown), Finished(reason, len(self._prompt), len(tokens), stop)
