"""What benchmarks measure and print with: a step by both clocks, a figure with its spread, and what is asked of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

Times = list[tuple[float, float]]
"""Wall and processor seconds of each step."""


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - processor


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def verdict(asked: tuple[float, float | None] | None, values: Sequence[float], *, least: bool = True) -> str:
    """What was asked for and aimed at, and whether one of `values` reaches it. least: else it is the most allowed."""
    if asked is None:
        return ""
    sign, best = (1, max(values)) if least else (-1, min(values))
    gate, aim = asked
    reached = [
        word for bound, word in ((aim, "reaches the aim"), (gate, "holds")) if bound and sign * (best - bound) >= 0
    ]
    aimed = "" if aim is None else f", aim {aim:g}"
    return f"  gate {'' if least else 'at most '}{gate:g}{aimed}: {reached[0] if reached else 'FAILS'}"
