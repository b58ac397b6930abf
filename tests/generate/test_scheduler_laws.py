"""The scheduler as a state machine: whatever arrives, when, and is cancelled, each answer is what it is alone.

Steps are run by hand, so that hypothesis decides what happens between which two of them.
"""

from __future__ import annotations

import dataclasses
import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octavo.generate.lm import Beams, Event, Finished, Request, Sampling, Scores, Started
from octavo.generate.propose import Proposer
from octavo.generate.propose.ngram import NGramProposer
from octavo.generate.scheduler import Scheduler
from octavo.generate.tasks.beam import BeamCompletion
from octavo.generate.tasks.completion import Completion
from octavo.generate.tasks.scoring import Scoring

PARTS: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("scheduling.py")))
VOCAB = PARTS["VOCAB"]
TOKENIZER = PARTS["TOKENIZER"]
MemoryRunner = PARTS["MemoryRunner"]
Soothsayer = PARTS["Soothsayer"]
completion = PARTS["completion"]
drained = PARTS["drained"]
run = PARTS["run"]
alone = PARTS["alone"]
said = PARTS["said"]


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
