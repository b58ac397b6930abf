"""A scheduler's parts in small: a runner whose logits tell all that it was given, tasks, a proposer mostly right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tokenizers

from octavo.generate.blocks import root_of
from octavo.generate.lm import Delta, Event, Request, Sampling
from octavo.generate.propose import Draft, Text
from octavo.generate.scheduler import Branch, Scheduler, Task
from octavo.generate.tasks.beam import BeamCompletion
from octavo.generate.tasks.completion import Completion, Limits
from octavo.models.runner import BLOCK_SIZE, Row, StepOutput
from octavo.text.tokenizer import Tokenizer

VOCAB = 32
ADAPTED = 100_000
"""What an adapter adds to its tokens in the memory."""
LETTERS = tokenizers.Tokenizer(tokenizers.models.BPE({chr(65 + i): i for i in range(VOCAB)}, []))
LETTERS.decoder = tokenizers.decoders.Fuse()
TOKENIZER = Tokenizer(LETTERS, named={})


class MemoryRunner:
    """Keeps token ids where keys and values would be, and computes its logits from all that it finds there.

    window: it sees no more than the last so many. An adapter's tokens are other numbers, so that what is shared with
    another's shows.
    """

    name = "memory"
    max_tokens = 24
    weights = 0

    def __init__(self, num_blocks: int, window: int = 1 << 20) -> None:
        self.num_blocks = num_blocks
        self.window = window
        self.memory = np.full(num_blocks * BLOCK_SIZE, -1)
        self.computed = 0

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        assert 1 <= sum(len(row.tokens) for row in rows) <= self.max_tokens
        slots = [self._slots(row) for row in rows]
        for at, own in enumerate(slots):
            written = {slot for i, row in enumerate(rows) if i != at for slot in slots[i][row.start :]}
            seen = own[max(0, rows[at].start + 1 - self.window) :]
            assert not written & set(seen), "a row writes what another reads"
        logits = []
        for row, own in zip(rows, slots, strict=True):
            self.computed += len(row.tokens)
            self.memory[own[row.start :]] = np.add(row.tokens, 1000 * self.weights + ADAPTED * row.adapter)
            for last in range(row.logits_from, len(row.tokens)):
                seen = [*own[: row.start], *(own[row.start + at] for at in _path(row.parents, last))]
                logits.append(self.logits(self.memory[seen[-self.window :]]))
        return StepOutput(np.array(logits, np.float32).reshape(-1, VOCAB))

    def accept(self, row: Row, path: Sequence[int]) -> None:
        own = np.array(self._slots(row)[row.start :])
        self.memory[own[: len(path)]] = self.memory[own[list(path)]]

    def logits(self, seen: np.ndarray) -> np.ndarray:
        state = int((np.arange(1, len(seen) + 1) * (seen + 7) ** 2).sum()) + self.weights
        return np.random.default_rng(state).normal(size=VOCAB).astype(np.float32)

    def _slots(self, row: Row) -> list[int]:
        return [
            row.blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE for at in range(row.start + len(row.tokens))
        ]

    def refresh(self) -> None: ...

    def close(self) -> None: ...


def _path(parents: np.ndarray | None, at: int) -> Sequence[int]:
    """The tokens of a row that lead to one of them, itself the last."""
    if parents is None:
        return range(at + 1)
    path = [at]
    while parents[path[-1]] >= 0:
        path.append(int(parents[path[-1]]))
    return path[::-1]


class Rising:
    """A constraint that knows where it is: a token is larger than the one before it, unless that was large."""

    ended = False

    def __init__(self) -> None:
        self.last = 0

    def allowed(self) -> np.ndarray:
        return np.arange(VOCAB) > (self.last if self.last < VOCAB // 2 else 3)

    def accept(self, token: int) -> None:
        assert self.allowed()[token]
        self.last = token


def completion(
    request: Request, draft_tokens: int = 0, *, guided: bool = False, adapter: int = 0
) -> Completion | BeamCompletion:
    assert not isinstance(request.prompt, str) and request.max_tokens is not None
    limits = Limits(frozenset(request.stop_token_ids), request.max_tokens)
    root = root_of(request.cache_salt, adapter)
    prompt: Any = request.prompt
    if request.beams is not None:
        return BeamCompletion(prompt, request, request.beams, limits, TOKENIZER, root, adapter)
    matcher: Any = Rising() if guided else None
    return Completion(prompt, request, limits, TOKENIZER, matcher, root, draft_tokens, adapter)


def drained(task: Completion | BeamCompletion) -> list[Event]:
    task.deliver()  # as the next step would
    events = []
    for event in task.events.at_hand():
        assert not isinstance(event, BaseException), event
        events.append(event)
    return events


def run(scheduler: Scheduler, *tasks: Task, steps: int = 2000) -> None:
    for _ in range(steps):
        if all(task.finished for task in tasks):
            return
        scheduler.step()
    raise AssertionError("the tasks do not end")


def alone(request: Request, window: int = 1 << 20, **kind: Any) -> list[Event]:
    """What a request gives on a runner of its own."""
    task, scheduler = completion(request, **kind), Scheduler(MemoryRunner(64, window), max_running=1)
    scheduler.add(task)
    run(scheduler, task)
    return drained(task)


def said(events: Sequence[Event]) -> tuple[list[int], str]:
    deltas = [event for event in events if isinstance(event, Delta)]
    return [token for delta in deltas for token in delta.token_ids], "".join(delta.text for delta in deltas)


class Soothsayer:
    """A proposer whose guesses are right more often than not, for greedy requests.

    trees: beside a guess there stand others, before or after it, and they go on.
    """

    def __init__(self, *, trees: bool = False) -> None:
        self.random = np.random.default_rng(0)
        self.trees = trees

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        return [self._draft(text) for text in texts]

    def _draft(self, text: Text) -> Draft:
        assert isinstance(text.key, Branch)
        tokens: list[int] = []
        parents: list[int] = []
        for index in range(int(self.random.integers(text.most + 1))):
            at = int(self.random.integers(max(-1, index - 3), index)) if self.trees else index - 1
            path = [] if at < 0 else [tokens[guess] for guess in _path(np.array(parents), at)]
            beside = {tokens[other] for other in range(index) if parents[other] == at}
            before = np.add([*text.tokens, *path], ADAPTED * text.key.adapter)
            likely = int(MemoryRunner(1).logits(before).argmax())
            guess = likely if self.random.random() < 0.8 else int(self.random.integers(VOCAB))
            tokens.append(guess if guess not in beside else next(t for t in range(VOCAB) if t not in beside))
            parents.append(at)
        return Draft(tuple(tokens), None, tuple(parents) if self.trees and tokens else None)

    def forget(self, key: object) -> None: ...

    def refresh(self) -> None: ...

    def close(self) -> None: ...


def greedy(prompt: Sequence[int], count: int = 4, **more: object) -> Request:
    return Request(prompt, max_tokens=count, sampling=Sampling(temperature=0), **more)  # type: ignore[arg-type]
