"""Predicted outputs: found again after every kind of change, counted truly, and never another answer."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.generate.lm import Delta, Finished, Request, Sampling
from octavo.generate.propose import Proposer, Text
from octavo.generate.propose.ngram import NGramProposer
from octavo.generate.propose.prediction import PredictionProposer
from octavo.generate.scheduler import Scheduler
from octavo.generate.tasks.completion import Completion, Limits

TINY: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("tiny_model.py")))
TOKENIZER, TinyRunner = TINY["TOKENIZER"], TINY["TinyRunner"]
PROMPT = [0, 1, 2]


class CountingRunner(TinyRunner):  # type: ignore[misc, valid-type]
    """Knows how many steps it made, and how many tokens it was given in them."""

    steps = tokens = 0

    def step(self, rows: Sequence[Any], *, hidden: bool = False) -> Any:
        self.steps += 1
        self.tokens += sum(len(row.tokens) for row in rows)
        return super().step(rows, hidden=hidden)


def answer(
    prediction: str, length: int, sampling: Sampling, other: Proposer | None = None
) -> tuple[list[int], Finished, CountingRunner]:
    request = Request(PROMPT, max_tokens=length, sampling=sampling, prediction=prediction)
    task = Completion(PROMPT, request, Limits(frozenset(), length), TOKENIZER, draft_tokens=8 if prediction else 0)
    runner = CountingRunner()
    scheduler = Scheduler(runner, max_running=4, proposer=PredictionProposer(other))
    scheduler.add(task)
    while scheduler.num_tasks:
        scheduler.step()
    scheduler.check()
    events = task.events.at_hand()
    assert isinstance(events[-1], Finished)
    return [token for event in events if isinstance(event, Delta) for token in event.token_ids], events[-1], runner


@given(
    st.text("ABCD", min_size=1, max_size=40),
    st.integers(1, 40),
    st.sampled_from([Sampling(temperature=0), Sampling(seed=3), Sampling(seed=4, top_k=3, presence_penalty=0.5)]),
)
def test_a_prediction_changes_no_answer_and_its_tokens_are_counted(prediction: str, length: int, by: Sampling) -> None:
    plain, _, _ = answer("", length, by)
    said, finished, runner = answer(prediction, length, by)
    assert said == plain
    assert runner.steps + finished.accepted_tokens == length, "a step makes one token, and those that were guessed"
    assert runner.tokens == len(PROMPT) + runner.steps - 1 + finished.drafted_tokens


CHANGES = {
    "nothing": lambda text: text,
    "one for another": lambda text: [*text[:20], (text[20] + 1) % 4, *text[21:]],
    "some gone": lambda text: text[:20] + text[27:],
    "some new": lambda text: [*text[:20], 3, 3, 3, 1, 3, 3, 1, *text[20:]],
    "not from the beginning": lambda text: [2, 2, 2, 2, 2, *text],
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_answer_is_followed_through_each_kind_of_change(change: str) -> None:
    plain, _, _ = answer("", 60, Sampling(temperature=0))
    prediction = "".join("ABCD"[token] for token in CHANGES[change](plain))
    _, finished, runner = answer(prediction, 60, Sampling(temperature=0))
    assert runner.steps <= {"nothing": 9}.get(change, 24), "few steps"
    if change == "nothing":
        assert finished.drafted_tokens == finished.accepted_tokens
    else:
        assert 0 < finished.drafted_tokens - finished.accepted_tokens <= 24


def test_a_text_without_a_prediction_is_guessed_by_the_other_and_one_with_it_is_not() -> None:
    proposer = PredictionProposer(NGramProposer())
    plain = Text("a", [1, 2, 3, 1, 2], 2, Sampling())
    predicted = Text("b", [1, 2, 3, 1, 2], 2, Sampling(), [0, 0, 0], 5)
    drafts = proposer.propose([predicted, plain])
    assert [draft.tokens for draft in drafts] == [(0, 0), (3, 1)]
    assert [draft.tokens for draft in PredictionProposer().propose([plain])] == [()]
