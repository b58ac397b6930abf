"""Laws of the engine, on a runner that computes its logits from what really lies in the KV blocks.

So a block given to two requests, freed too early or never written shows as wrong tokens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.generate.engine import Engine
from octavo.generate.lm import Delta, Event, Finished, Request, Sampling, Started
from octavo.generate.tasks.completion import Completion, Limits
from octavo.generate.tasks.scoring import Scoring
from octavo.generate.tasks.stream import CompletionStream
from octavo.models.runner import BLOCK_SIZE, Row, StepOutput
from octavo.text.tokenizer import Tokenizer

VOCAB = 32


def next_logits(tokens: Sequence[int]) -> np.ndarray:
    """A model: logits that depend on every token and its place."""
    state = sum((at + 1) * (token + 7) ** 2 for at, token in enumerate(tokens))
    return np.random.default_rng(state).normal(size=VOCAB).astype(np.float32)


class MemoryRunner:
    """Keeps token ids where keys and values would be."""

    name = "memory"
    max_tokens = 24

    def __init__(self, num_blocks: int, delay: float = 0) -> None:
        self.num_blocks = num_blocks
        self.memory = np.full(num_blocks * BLOCK_SIZE, -1)
        self.delay = delay
        self.error: Exception | None = None

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        time.sleep(self.delay)
        if self.error:
            raise self.error
        assert sum(len(row.tokens) for row in rows) <= self.max_tokens
        slots = [self._slots(row) for row in rows]
        written = [own[row.start :] for row, own in zip(rows, slots, strict=True)]
        for at, own in enumerate(slots):
            others = {slot for i, row in enumerate(written) if i != at for slot in row}
            assert not others & set(own), "a row writes what another reads"
        logits = []
        for row, own in zip(rows, slots, strict=True):
            self.memory[own[row.start : row.start + len(row.tokens)]] = row.tokens
            seen = self.memory[own].tolist()
            logits += [next_logits(seen[: row.start + i + 1]) for i in range(row.logits_from, len(row.tokens))]
        return StepOutput(np.array(logits, np.float32).reshape(-1, VOCAB))

    def _slots(self, row: Row) -> list[int]:
        last = row.start + len(row.tokens)
        return [row.blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE for at in range(last)]

    def refresh(self) -> None: ...

    def close(self) -> None: ...


def alone(prompt: Sequence[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(next_logits(tokens).argmax()))
    return tokens[len(prompt) :]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(letters)}, []))
    backend.decoder = tokenizers.decoders.Fuse()
    return Tokenizer(backend, named={})


def submit(engine: Engine, tokenizer: Tokenizer, prompt: Sequence[int], count: int) -> CompletionStream:
    request = Request(prompt, max_tokens=count, sampling=Sampling(temperature=0))
    completion = Completion(prompt, request, Limits(frozenset(), count), tokenizer)
    engine.submit(completion)
    return CompletionStream(completion, engine.wake)


def ids(events: Sequence[Event]) -> list[int]:
    return [token for event in events if isinstance(event, Delta) for token in event.token_ids]


def wait_until_idle(engine: Engine) -> None:
    end = time.monotonic() + 10
    while not engine.idle:
        assert time.monotonic() < end, "the engine did not become idle"
        time.sleep(0.001)


@dataclass
class Job:
    prompt: list[int]
    count: int
    cancel_after: int | None


beginnings = st.sampled_from([[], [1] * 16, [1] * 33, [2] * 20])
jobs = st.builds(
    Job,
    st.builds(lambda a, b: a + b, beginnings, st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=10)),
    st.integers(1, 20),
    st.none() | st.integers(0, 10),
)


@settings(deadline=None, max_examples=50)
@given(st.lists(jobs, min_size=1, max_size=8), st.integers(4, 12))
def test_any_mixture_of_requests_and_cancels_gives_each_its_own_tokens(work: list[Job], num_blocks: int) -> None:
    letters = tokenizers.Tokenizer(tokenizers.models.BPE({chr(65 + i): i for i in range(VOCAB)}, []))
    engine = Engine(MemoryRunner(num_blocks))
    results: dict[int, list[Event]] = {}

    def read(index: int, job: Job, stream: CompletionStream) -> None:
        events = []
        for event in stream:
            events.append(event)
            if job.cancel_after is not None and len(ids(events)) >= job.cancel_after:
                stream.close()
        results[index] = events

    streams = [submit(engine, Tokenizer(letters, named={}), job.prompt, job.count) for job in work]
    threads = [
        threading.Thread(target=read, args=(i, job, stream))
        for i, (job, stream) in enumerate(zip(work, streams, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for index, job in enumerate(work):
        events = results[index]
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Finished)
        expected = alone(job.prompt, job.count)
        assert ids(events) == expected[: len(ids(events))]
        if events[-1].reason == "length":
            assert ids(events) == expected
        else:
            assert job.cancel_after is not None
    wait_until_idle(engine)
    engine.check()
    engine.close()


def test_what_begins_alike_is_computed_once(tokenizer: Tokenizer) -> None:
    runner = MemoryRunner(num_blocks=32)
    engine = Engine(runner)
    beginning = [7, 3] * 20
    list(submit(engine, tokenizer, [*beginning, 1], 4))
    events = list(submit(engine, tokenizer, [*beginning, 2], 6))
    assert events[0] == Started(41, cached_tokens=32)
    assert ids(events) == alone([*beginning, 2], 6)
    again = list(submit(engine, tokenizer, beginning[:32], 6))
    assert again[0] == Started(32, cached_tokens=16), "the last token is always computed"
    assert ids(again) == alone(beginning[:32], 6)
    wait_until_idle(engine)
    engine.check()
    engine.close()


def test_memory_for_one_request_serves_two_by_computing_again(tokenizer: Tokenizer) -> None:
    engine = Engine(MemoryRunner(num_blocks=4))
    streams = [submit(engine, tokenizer, [start] * 20, 30) for start in (1, 2, 3)]
    for start, stream in zip((1, 2, 3), streams, strict=True):
        assert ids(list(stream)) == alone([start] * 20, 30)
    engine.close()


def test_scores_are_those_of_the_tokens_given_what_precedes_them(tokenizer: Tokenizer) -> None:
    text = list(range(30)) * 3
    engine = Engine(MemoryRunner(num_blocks=8))
    scoring = Scoring(text, 2, tokenizer)
    engine.submit(scoring)
    scores = scoring.result.get(timeout=10)
    assert not isinstance(scores, BaseException)
    assert scores.logprobs[0] is None
    for at in range(1, len(text)):
        logits = next_logits(text[:at]).astype(np.float64)
        assert scores.logprobs[at] == pytest.approx(logits[text[at]] - np.log(np.exp(logits).sum()))
        assert [token.id for token in scores.top[at]] == np.argsort(-logits)[:2].tolist()
    engine.close()


def test_an_error_in_a_step_reaches_every_reader_and_the_engine_goes_on(tokenizer: Tokenizer) -> None:
    runner = MemoryRunner(num_blocks=8)
    engine = Engine(runner)
    runner.error = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        list(submit(engine, tokenizer, [1, 2], 3))
    runner.error = None
    assert ids(list(submit(engine, tokenizer, [1, 2], 3))) == alone([1, 2], 3)
    engine.close()


def test_an_error_in_one_request_leaves_its_neighbours_alone(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(MemoryRunner(num_blocks=8, delay=0.01))
    broken = Completion([3], Request([3], max_tokens=20), Limits(frozenset(), 20), tokenizer)
    monkeypatch.setattr(broken, "_append", lambda token, logits: 1 / 0)
    neighbour = submit(engine, tokenizer, [1, 2], 20)
    next(neighbour)
    engine.submit(broken)
    with pytest.raises(ZeroDivisionError):
        list(CompletionStream(broken, engine.wake))
    assert ids(list(neighbour)) == alone([1, 2], 20)
    wait_until_idle(engine)
    engine.check()
    engine.close()


def test_closing_the_engine_ends_what_runs(tokenizer: Tokenizer) -> None:
    engine = Engine(MemoryRunner(num_blocks=64, delay=0.01))
    stream = submit(engine, tokenizer, [1], 900)
    next(stream)
    engine.close()
    engine.close()
    assert [event.reason for event in stream if isinstance(event, Finished)] == ["cancelled"]


def test_a_stop_text_across_tokens_ends_the_answer_without_showing_any_of_it(tokenizer: Tokenizer) -> None:
    engine = Engine(MemoryRunner(num_blocks=8))
    answer = tokenizer.decode(alone([5], 12))
    stop = answer[4:6]
    assert stop not in answer[:5]
    request = Request([5], max_tokens=12, sampling=Sampling(temperature=0), stop=(stop,))
    completion = Completion([5], request, Limits(frozenset(), 12), tokenizer)
    engine.submit(completion)
    events = list(CompletionStream(completion, engine.wake))
    assert "".join(event.text for event in events if isinstance(event, Delta)) == answer[:4]
    assert events[-1] == Finished("stop", 1, 6, stop)
    engine.close()
