"""Axes on a logarithmic scale: what spans megabytes to terabytes is compared by its ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass

from octavo.figures.drawing import GREY, PALE, Label, Line, Shape


@dataclass(frozen=True)
class LogAxis:
    """Values low .. high laid out over pixels start .. end; `end` may be the smaller, as where up is more."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value; what lies outside lands on the nearer end."""
        part = (math.log(max(value, 1e-300)) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return self.start + (self.end - self.start) * min(max(part, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """The powers of ten within the axis."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


def log_axis(values: list[float], start: float, end: float) -> LogAxis:
    """An axis from the power of ten below all values, which are above 0, to the one above them."""
    assert values and min(values) > 0, "a logarithmic axis has values above 0"
    low, high = math.floor(math.log10(min(values)) - 1e-9), math.ceil(math.log10(max(values)) + 1e-9)
    return LogAxis(10.0**low, 10.0 ** max(high, low + 1), start, end)


def horizontal(axis: LogAxis, top: float, bottom: float, unit: str) -> tuple[Shape, ...]:
    """Upright grid lines with their values below them, and what they count."""
    shapes: list[Shape] = []
    for value in axis.ticks():
        x = axis.at(value)
        shapes += [Line(((x, top), (x, bottom)), PALE), Label((x, bottom + 16), short(value), 11, "middle", GREY)]
    shapes.append(Label(((axis.start + axis.end) / 2, bottom + 34), unit, 12, "middle", GREY))
    return tuple(shapes)


def vertical(axis: LogAxis, left: float, right: float, unit: str) -> tuple[Shape, ...]:
    """Level grid lines with their values before them, and what they count."""
    shapes: list[Shape] = []
    for value in axis.ticks():
        y = axis.at(value)
        shapes += [Line(((left, y), (right, y)), PALE), Label((left - 6, y + 4), short(value), 11, "end", GREY)]
    shapes.append(Label((left, min(axis.start, axis.end) - 10), unit, 12, "start", GREY))
    return tuple(shapes)


def short(value: float) -> str:
    """A number in at most three digits with k, M, G, T for thousands."""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"
