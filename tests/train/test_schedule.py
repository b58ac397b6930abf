"""The learning rate against its formula and its laws."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.train.recipe import ScheduleSettings
from octavo.train.schedule import learning_rate

Kind = Literal["cosine", "linear", "constant"]


@given(
    kind=st.sampled_from(["cosine", "linear", "constant"]),
    total=st.integers(2, 500),
    warmup=st.integers(0, 100),
    final=st.floats(0, 1),
)
def test_rates_rise_to_the_peak_and_never_rise_again(kind: Kind, total: int, warmup: int, final: float) -> None:
    warmup = min(warmup, total - 1)
    schedule = ScheduleSettings(kind=kind, warmup_steps=warmup, final_fraction=final)
    rates = [learning_rate(step, peak=0.5, total=total, schedule=schedule) for step in range(1, total + 1)]
    top = max(warmup, 1)
    assert rates[top - 1] == pytest.approx(0.5)
    assert all(a < b for a, b in pairwise(rates[:top]))
    assert all(a >= b - 1e-15 for a, b in pairwise(rates[top - 1 :]))
    assert rates[-1] == pytest.approx(0.5 if kind == "constant" or top == total else 0.5 * final)
    assert rates[0] > 0  # the first step is not wasted


def test_cosine_is_half_way_between_peak_and_end_in_the_middle() -> None:
    schedule = ScheduleSettings(kind="cosine", warmup_steps=100, final_fraction=0.1)
    assert learning_rate(1100, peak=1e-3, total=2100, schedule=schedule) == pytest.approx(0.55e-3)
    quarter = 1e-3 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert learning_rate(600, peak=1e-3, total=2100, schedule=schedule) == pytest.approx(quarter)


def test_a_run_shorter_than_its_warm_up_only_rises() -> None:
    schedule = ScheduleSettings(kind="cosine", warmup_steps=100)
    assert [learning_rate(step, peak=1.0, total=3, schedule=schedule) for step in (1, 2, 3)] == [0.01, 0.02, 0.03]
