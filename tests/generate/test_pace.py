"""The pace on a machine whose steps take what a formula says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.generate.pace import FIRST, SLOWEST, UNIT, Pace


@given(st.floats(1e-4, 1), st.floats(1e-5, 1e-1), st.lists(st.floats(1, 50), max_size=3))
def test_a_mixed_step_takes_at_most_three_times_a_pure_one_also_when_some_are_disturbed(
    pure: float, token: float, disturbances: list[float]
) -> None:
    pace = Pace()
    for _ in range(16):
        pace.measured(8, 0, pure)
    for at in range(30):
        count = pace.beside()
        slower = disturbances[at // 10] if at % 10 == 9 and at // 10 < len(disturbances) else 1
        pace.measured(8, count, (pure + count * token) * slower)
    assert pace.beside() == UNIT or pure + pace.beside() * token <= SLOWEST * pure * 1.0001
    full = 1.4 * pure / token
    assert pace.beside() >= min(full, 2 * FIRST * 2**20) - UNIT - 1


def test_it_follows_a_context_that_makes_tokens_dearer() -> None:
    pace = Pace()
    for _ in range(16):
        pace.measured(8, 0, 0.005)
    for at in range(200):
        count = pace.beside()
        assert at < 20 or count == pytest.approx(max(UNIT, 0.007 / (0.0002 + at * 1e-5)), abs=UNIT)
        pace.measured(8, count, 0.005 + count * (0.0002 + at * 1e-5))
    assert pace.beside() == UNIT  # where 3 would fit


def test_before_anything_is_measured_it_takes_few() -> None:
    assert Pace().beside() == FIRST
