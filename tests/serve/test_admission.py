"""Slots and queue: never more than allowed, first come first served, and a full queue is a 429 that says when."""

from __future__ import annotations

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
