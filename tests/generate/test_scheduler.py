"""The scheduler as a state machine: whatever arrives, when, and is cancelled, each answer is what it is alone.

Steps are run by hand, so that hypothesis decides what happens between which two of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octavo.generate.blocks import root_of
from octavo.generate.lm import Beams, Delta, Event, Finished, Request, Sampling, Scores, Started
from octavo.generate.propose import Draft, Proposer, Text
from octavo.generate.propose.ngram import NGramProposer
from octavo.generate.scheduler import MOST_PASSED, Branch, Scheduler, Task
from octavo.generate.tasks.beam import BeamCompletion
from octavo.generate.tasks.completion import Completion, Limits
from octavo.generate.tasks.scoring import Scoring
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


@dataclass
class Asked:
    request: Request
    kind: dict[str, Any]
    task: Completion | BeamCompletion
    events: list[Event] = field(default_factory=list)


BEGINNINGS = st.sampled_from([[], [1] * 16, [1] * 33, [2] * 20, [1] * 16 + [2] * 32])
PROMPTS = st.builds(lambda a, b: a + b, BEGINNINGS, st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12))
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.8]),
    seed=st.integers(0, 5),
    top_k=st.sampled_from([0, 4]),
    frequency_penalty=st.sampled_from([0.0, 1.0]),
)
REQUESTS = st.builds(
    Request,
    PROMPTS,
    max_tokens=st.integers(5, 24),
    sampling=SAMPLINGS,
    stop=st.sampled_from([(), ("A",), ("BC", "D")]),
    stop_token_ids=st.sampled_from([(), (5, 9)]),
    min_tokens=st.sampled_from([0, 3]),
    logprobs=st.sampled_from([None, 2]),
    prompt_logprobs=st.sampled_from([None, None, 1]),
    cache_salt=st.sampled_from(["", "", "salt"]),
    priority=st.sampled_from([0, 0, -1, 2]),
)


KINDS = st.fixed_dictionaries({"guided": st.sampled_from([False, False, True]), "adapter": st.sampled_from([0, 0, 1])})
SEARCHES = st.builds(
    Request,
    PROMPTS,
    max_tokens=st.integers(1, 9),
    beams=st.builds(Beams, st.integers(1, 3), early_stopping=st.booleans()),
    stop_token_ids=st.sampled_from([(), (5, 9)]),
    priority=st.sampled_from([0, -1, 2]),
)


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


class Serving(RuleBasedStateMachine):
    """Requests of all kinds on memory for two or three of them."""

    proposer: Proposer | None = None
    window = 1 << 20

    def __init__(self) -> None:
        super().__init__()
        runner = MemoryRunner(10, self.window)
        self.scheduler = Scheduler(runner, max_running=6, proposer=self.proposer, window=self.window)
        self.asked: list[Asked] = []
        self.scored: list[tuple[list[int], int, Scoring]] = []

    @rule(request=REQUESTS, n=st.integers(1, 3), kind=KINDS)
    def ask(self, request: Request, n: int, kind: dict[str, Any]) -> None:
        for choice in range(n):
            sampling = dataclasses.replace(request.sampling, seed=(request.sampling.seed or 0) + choice)
            own = dataclasses.replace(request, sampling=sampling)
            self.asked.append(Asked(own, kind, completion(own, draft_tokens=4, **kind)))
            self.scheduler.add(self.asked[-1].task)

    @rule(request=SEARCHES, adapter=st.sampled_from([0, 1]))
    def search(self, request: Request, adapter: int) -> None:
        self.asked.append(Asked(request, {"adapter": adapter}, completion(request, adapter=adapter)))
        self.scheduler.add(self.asked[-1].task)

    @rule(tokens=PROMPTS, data=st.data())
    def score(self, tokens: list[int], data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(tokens) - 1))
        self.scored.append((tokens, start, Scoring(tokens, 1, TOKENIZER, start=start)))
        self.scheduler.add(self.scored[-1][2])

    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.scheduler.step()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.asked)).task.cancelled = True

    @rule()
    def refresh(self) -> None:
        self.scheduler.refresh()

    @invariant()
    def no_block_is_lost_and_what_was_said_is_right(self) -> None:
        self.scheduler.check()
        for asked in self.asked:
            asked.events += drained(asked.task)

    def teardown(self) -> None:
        run(self.scheduler, *(asked.task for asked in self.asked), *(scoring for *_, scoring in self.scored))
        self.no_block_is_lost_and_what_was_said_is_right()
        assert self.scheduler.num_tasks == 0 and self.scheduler.pool.available == 10
        for asked in self.asked:
            expected, events = alone(asked.request, self.window, **asked.kind), asked.events
            assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
            if events[-1].reason == "cancelled":
                assert asked.task.cancelled
                ids = said(events)[0]
                assert ids == said(expected)[0][: len(ids)]
            else:
                assert events[1:-1] == expected[1:-1]
                assert without_guesses(events[-1]) == expected[-1]
        for tokens, start, scoring in self.scored:
            scores, whole = scoring.result.get(block=False), scores_alone(tokens, self.window)
            assert isinstance(scores, Scores)
            first = max(1, start)
            assert scores.logprobs == (*[None] * first, *whole.logprobs[first:])
            assert scores.top[first:] == whole.top[first:] and scores.ranks[first:] == whole.ranks[first:]


def scores_alone(tokens: list[int], window: int) -> Scores:
    task, scheduler = Scoring(tokens, 1, TOKENIZER), Scheduler(MemoryRunner(64, window), max_running=1)
    scheduler.add(task)
    run(scheduler, task)
    result = task.result.get(block=False)
    assert isinstance(result, Scores)
    return result


class Guessing(Serving):
    """The same with guesses from a proposer: right, wrong, or copied from the text."""

    proposer = Soothsayer()


class Copying(Serving):
    """The same with the guesses of prompt lookup."""

    def __init__(self) -> None:
        self.proposer = NGramProposer()
        super().__init__()


class Branching(Serving):
    """The same with trees of guesses, of which what stands is seldom what came first."""

    proposer = Soothsayer(trees=True)


class Sliding(Serving):
    """The same with a model that sees the last 20 positions, so that the memory behind them is used again."""

    window = 20


class SlidingBranches(Branching):
    """Both at once."""

    window = 20


for machine in (Serving, Guessing, Copying, Branching, Sliding, SlidingBranches):
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestServing, TestGuessing, TestCopying = Serving.TestCase, Guessing.TestCase, Copying.TestCase
TestBranching, TestSliding, TestSlidingBranches = Branching.TestCase, Sliding.TestCase, SlidingBranches.TestCase


def without_guesses(event: Event) -> Event:
    assert isinstance(event, Finished) and 0 <= event.accepted_tokens <= event.drafted_tokens
    return dataclasses.replace(event, drafted_tokens=0, accepted_tokens=0)


def test_a_model_that_sees_a_window_needs_memory_for_little_more() -> None:
    scheduler = Scheduler(MemoryRunner(5, 20), max_running=1, window=20)
    request = greedy([1, 2] * 100, 100)
    scheduler.add(task := completion(request))
    run(scheduler, task)
    assert said(drained(task)) == said(alone(request, 20))


def test_right_guesses_need_fewer_steps() -> None:
    request = greedy([1, 2, 3], 24)
    expected = said(alone(request))[0]

    class Oracle(Soothsayer):
        def _draft(self, text: Text) -> Draft:
            at = len(text.tokens) - 3
            return Draft(tuple(expected[at : at + text.most]))

    scheduler, task = Scheduler(MemoryRunner(64), max_running=1, proposer=Oracle()), completion(request, 8)
    scheduler.add(task)
    run(scheduler, task, steps=6)
    assert said(events := drained(task))[0] == expected
    assert isinstance(events[-1], Finished) and events[-1].accepted_tokens == events[-1].drafted_tokens > 15


def greedy(prompt: Sequence[int], count: int = 4, **more: object) -> Request:
    return Request(prompt, max_tokens=count, sampling=Sampling(temperature=0), **more)  # type: ignore[arg-type]


def test_what_several_prompts_begin_with_is_computed_once_even_when_they_arrive_together() -> None:
    scheduler = Scheduler(runner := MemoryRunner(64), max_running=16)
    tasks = [completion(greedy([7] * 48 + [number], 1)) for number in range(8)]
    for task in tasks:
        scheduler.add(task)
    run(scheduler, *tasks)
    assert runner.computed == 48 + 8
    cached = [event.cached_tokens for task in tasks for event in drained(task) if isinstance(event, Started)]
    assert cached == [0] + [48] * 7


def test_requests_of_different_salts_share_nothing() -> None:
    scheduler = Scheduler(MemoryRunner(64), max_running=4)
    cached = []
    for salt in ("", "a", "b", "a", ""):
        task = completion(greedy([7] * 40, cache_salt=salt))
        scheduler.add(task)
        run(scheduler, task)
        cached += [event.cached_tokens for event in drained(task) if isinstance(event, Started)]
    assert cached == [0, 0, 0, 32, 32]


def test_changed_weights_are_used_from_the_next_step_on_and_nothing_old_is_shared() -> None:
    scheduler = Scheduler(runner := MemoryRunner(64), max_running=4)
    running = completion(greedy([7] * 40, 20))
    scheduler.add(running)
    for _ in range(8):
        scheduler.step()
    before = said(drained(running))[0]
    runner.weights = 1
    scheduler.refresh()
    later = completion(greedy([7] * 40))
    scheduler.add(later)
    run(scheduler, running, later)
    tokens = [7] * 40 + before
    for token in said(drained(running))[0]:
        assert token == runner.logits(np.array(tokens) + 1000).argmax()
        tokens.append(token)
    assert drained(later)[0] == Started(40, cached_tokens=0)


def test_a_short_prompt_does_not_wait_for_a_long_one_and_the_long_one_is_not_passed_for_ever() -> None:
    scheduler = Scheduler(MemoryRunner(256), max_running=16)
    long = completion(greedy([3] * 600, 1))
    short = completion(greedy([4] * 10, 1))
    for task in (long, short):
        scheduler.add(task)
    scheduler.step()
    assert short.finished and not long.finished
    for number in range(1000):
        if long.finished:
            break
        for copy in range(2):  # more than a step holds, all the time
            scheduler.add(completion(greedy([5, number % VOCAB, copy] * 6, 1)))
        scheduler.step()
    assert long.finished and number < 600 / MemoryRunner.max_tokens + 2 * MOST_PASSED


def test_the_smaller_priority_goes_first_and_no_one_waits_for_ever() -> None:
    scheduler = Scheduler(MemoryRunner(64), max_running=1)
    last, urgent = completion(greedy([1], priority=5)), completion(greedy([2], priority=-5))
    for task in (last, urgent):
        scheduler.add(task)
    run(scheduler, urgent)
    assert not drained(last)
    for number in range(MOST_PASSED + 1):
        scheduler.add(task := completion(greedy([number])))
        run(scheduler, task)
    assert last.finished


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_scores_of_a_prompt_come_before_its_answer(max_tokens: int) -> None:
    events = alone(greedy([1, 2, 3] * 30, max_tokens, prompt_logprobs=2))
    assert isinstance(events[1], Scores)
    assert events[1].ids == (1, 2, 3) * 30 and events[1].logprobs[0] is None
    assert len(events[1].top[5]) == 2
    assert len(said(events)[0]) == max_tokens


def test_no_token_ends_an_answer_before_min_tokens() -> None:
    plain = said(alone(greedy([1], 12)))[0]
    assert said(alone(greedy([1], 12, stop_token_ids=plain[:1])))[0] == []
    assert len(said(alone(greedy([1], 12, stop_token_ids=plain[:1], min_tokens=5)))[0]) >= 5
    text = said(alone(greedy([1], 12)))[1]
    assert said(alone(greedy([1], 12, stop=(text[1],), min_tokens=3)))[1][:3] == text[:3]


def test_a_stop_text_is_part_of_the_answer_where_asked() -> None:
    text = said(alone(greedy([1], 12)))[1]
    stop = text[4:6]
    assert said(alone(greedy([1], 12, stop=(stop,), include_stop=True)))[1] == text[: text.index(stop) + 2]
    token = said(alone(greedy([1], 12)))[0][3]
    shown = alone(greedy([1], 12, stop_token_ids=(token,), include_stop=True))
    assert said(shown)[1].endswith(text[3]) and isinstance(shown[-1], Finished) and shown[-1].stop == token
