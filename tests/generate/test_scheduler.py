"""The scheduler by example: what is shared, who goes first, what guesses save, and where an answer ends."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.generate.lm import Finished, Scores, Started
from octavo.generate.propose import Draft, Text
from octavo.generate.scheduler import MOST_PASSED, Scheduler

PARTS: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("scheduling.py")))
VOCAB = PARTS["VOCAB"]
MemoryRunner = PARTS["MemoryRunner"]
Soothsayer = PARTS["Soothsayer"]
completion = PARTS["completion"]
drained = PARTS["drained"]
run = PARTS["run"]
alone = PARTS["alone"]
said = PARTS["said"]
greedy = PARTS["greedy"]


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
