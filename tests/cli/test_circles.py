"""An answer without a limit that goes in circles is stopped, and only that one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.cli.terminal import LOOPED, ROUNDS, Reading, circles
from octavo.generate.lm import Request
from octavo.generate.scripted import ScriptedModel

PIECE = "The capital of France is Paris. "


@given(st.text(max_size=300), st.text(min_size=1, max_size=400))
def test_what_is_said_over_and_over_is_seen_soon(before: str, piece: str) -> None:
    needed = max(ROUNDS + 1, -(-2 * LOOPED // len(piece)))
    whole = before + piece * needed
    assert any(circles(whole[: len(whole) - cut]) for cut in range(len(piece)))
    assert not circles((piece * needed)[: LOOPED - 1])


def test_what_only_looks_alike_is_let_be() -> None:
    table = "".join(
        f"| row {number} | {number * number} | the same words in each row of it |\n" for number in range(300)
    )
    assert not any(circles(table[:end]) for end in range(0, len(table), 7))
    assert not circles(PIECE * 40 + "No, it")
    assert not circles("x" * 400 + "".join(map(str, range(600))) + "x" * 400)


@pytest.mark.parametrize("endless", [True, False])
def test_it_is_stopped_only_where_nothing_else_limits_it(endless: bool) -> None:
    reading = Reading(ScriptedModel([PIECE * 400]).stream(Request("")), endless=endless)
    list(reading)
    answer = reading.answer()
    assert answer.circling == endless and answer.finished is not None
    assert (len(answer.text) < 3 * LOOPED) == endless
    assert ("only repeats itself" in answer.speed()) == endless
