"""Slots and queue: never more than allowed, first come first served, and a full queue is a 429 that says when."""

from __future__ import annotations

import threading

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.generate.scripted import ScriptedModel
from octavo.serve.admission import Admission
from octavo.serve.errors import ApiError


@given(
    st.integers(1, 4),
    st.integers(0, 5),
    st.lists(st.one_of(st.integers(1, 4), st.just("release"), st.just("withdraw")), max_size=60),
)
def test_any_order_of_events_keeps_the_bounds_and_the_order(max_running, max_queue, events):
    admission = Admission(max_running, max_queue)
    started: list[int] = []
    admitted: list[int] = []
    withdrawn: set[int] = set()
    starts = {}
    for event in events:
        if event == "release":
            if admission.running:
                admission.release(0.1)
        elif event == "withdraw":
            for number in admitted:
                if admission.withdraw(starts[number]):
                    withdrawn.add(number)
                    break
        else:
            numbers = range(len(starts), len(starts) + event)
            starts.update({number: lambda number=number: started.append(number) for number in numbers})
            room = max_running + max_queue - admission.running - admission.waiting
            try:
                admission.admit([starts[number] for number in numbers])
            except ApiError as error:
                assert event > room
                assert error.status == (400 if event > max_running + max_queue else 429)
            else:
                assert event <= room
                admitted.extend(numbers)
        admission.check()
        assert started == [number for number in admitted if number not in withdrawn][: len(started)]
        assert admission.waiting <= max_queue + max_running


def test_a_full_queue_is_a_rate_limit_error_that_says_when_to_come_back(start_server):
    model = ScriptedModel(["word " * 500], delay=0.01)
    running = start_server([model], max_running=1, max_queue=1)
    client = running.openai()
    messages = [{"role": "user", "content": "x"}]
    stream = client.chat.completions.create(model="scripted", messages=messages, stream=True)
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="scripted", messages=messages, n=2)
    assert refused.value.code == "queue_full" and refused.value.type == "rate_limit_error"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert refused.value.response.headers["retry-after-ms"].endswith("000")
    with pytest.raises(openai.BadRequestError, match="takes 2 at once"):
        client.chat.completions.create(model="scripted", messages=messages, n=3)
    stream.close()
    running.until(lambda: running.server.serving.admission.running == 0)
    assert client.completions.create(model="scripted", prompt="x", max_tokens=1).choices[0].text == "word"
    running.stop()


def test_the_queue_holds_so_many_tokens_and_at_least_one_request():
    admission = Admission(1, 8, max_queued_tokens=100)
    begun: list[int] = []
    starts = [lambda number=number: begun.append(number) for number in range(5)]
    admission.admit(starts[:1], tokens=10_000)  # runs at once, so it waits for nobody
    admission.admit(starts[1:2], tokens=5_000)  # nobody waits before it
    with pytest.raises(ApiError) as full:
        admission.admit(starts[2:3], tokens=1)
    assert full.value.status == 429 and full.value.code == "queue_full"
    admission.release(1.0, 10_000)
    admission.admit(starts[2:4], tokens=50)
    assert begun == [0, 1] and admission.queued_tokens == 100
    with pytest.raises(ApiError):
        admission.admit(starts[4:], tokens=1)


def test_when_to_come_back_is_the_queued_tokens_over_the_measured_speed():
    def told(speed: int, queued: int) -> int:
        admission = Admission(2, 2)
        for _ in range(60):  # until the first guess at the speed is forgotten
            admission.admit([lambda: None], tokens=speed)
            admission.release(1.0, speed)
        admission.admit([lambda: None] * 2)
        admission.admit([lambda: None] * 2, tokens=queued // 2)
        with pytest.raises(ApiError) as full:
            admission.admit([lambda: None])
        return int(full.value.headers["Retry-After"])

    assert told(speed=100, queued=1980) == 11
    assert told(speed=1000, queued=1800) == 2
    assert told(speed=10, queued=20_000) == 60


def test_a_long_queue_is_refused_by_its_tokens(start_server):
    running = start_server([ScriptedModel(["word " * 500], delay=0.01)], max_running=1, max_queued_tokens=100)
    client = running.openai()
    stream = client.completions.create(model="scripted", prompt="x", max_tokens=90, stream=True)
    waiting = threading.Thread(
        target=lambda: client.completions.create(model="scripted", prompt="x", max_tokens=90), daemon=True
    )
    waiting.start()
    running.until(lambda: running.server.serving.admission.waiting == 1)
    with pytest.raises(openai.RateLimitError, match="busy"):
        client.completions.create(model="scripted", prompt="x", max_tokens=50)
    stream.close()
    waiting.join(10)
    running.stop()
