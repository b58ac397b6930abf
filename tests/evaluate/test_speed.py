"""The speeds are those of the engine: each answer has the tokens asked for, and no prompt is half known already."""

from __future__ import annotations

import pytest

from octavo.errors import OctavoError
from octavo.evaluate.speed import measure
from octavo.generate.lm import Delta, Finished, Sampling, Started
from octavo.generate.local import load


@pytest.fixture(scope="module")
def model(stories):
    with load(str(stories)) as model:
        yield model


def test_all_sequences_are_read_and_written_whole(model, monkeypatch):
    started, finished, tokens = [], [], []
    plain = model.stream

    def watched(request):
        for event in plain(request):
            started.append(event) if isinstance(event, Started) else None
            finished.append(event) if isinstance(event, Finished) else None
            tokens.extend(event.token_ids if isinstance(event, Delta) else ())
            yield event

    monkeypatch.setattr(model, "stream", watched)
    speed = measure(model, batch=3, prompt_tokens=40, new_tokens=5, rounds=2)
    assert len(started) == 3 * 3 and len(tokens) == 3 * 3 * 5
    assert all((event.prompt_tokens, event.cached_tokens) == (40, 0) for event in started)
    assert all((event.reason, event.completion_tokens) == ("length", 5) for event in finished)
    assert speed.prefill > 0 and speed.decode > 0 and speed.first_token > 0


class Clock:
    """Two tokens a second, after a second of reading."""

    name, context_length, sampling = "clock", 100, Sampling()

    def __init__(self, tokenizer, now):
        self.tokenizer, self._now = tokenizer, now

    def stream(self, request):
        yield Started(len(request.prompt))
        for place in range(request.max_tokens):
            self._now[0] += 1.0 if place == 0 else 0.5
            yield Delta("x", (1,))
        yield Finished("length", len(request.prompt), request.max_tokens)


def test_the_arithmetic_is_tokens_over_time(model, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("octavo.evaluate.speed.time.perf_counter", lambda: now[0])
    speed = measure(Clock(model.tokenizer, now), batch=1, prompt_tokens=20, new_tokens=9)
    assert (speed.prefill, speed.decode, speed.first_token) == (20, 2, 1)


def test_what_the_context_does_not_hold_is_said(model):
    with pytest.raises(OctavoError, match="more than the context of"):
        measure(model, batch=1, prompt_tokens=model.context_length, new_tokens=2)
