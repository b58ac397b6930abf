"""`Drawing`: a picture as a list of shapes, drawn alike as SVG and as pixels.

Unusual: there is no plotting library. A handful of shapes makes a page of a few kilobytes without scripts, and the same
list becomes a PNG through pillow. Coordinates are pixels from the top left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
INK, GREY, PALE = "#1c1e21", "#7a7f87", "#e3e5e8"
COLOURS = ("#3366aa", "#cc6633", "#2e8b57", "#8e5bb5", "#b8860b", "#c2476b")
"""For series, in this order; told apart in grey too."""


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: tuple[Point, ...]
    colour: str = INK
    width: float = 1
    dashed: bool = False


@dataclass(frozen=True)
class Box:
    """A filled rectangle. note: what a page shows when it is pointed at."""

    corner: Point
    size: Point
    colour: str
    note: str = ""


@dataclass(frozen=True)
class Dot:
    """A filled circle. note: as of a `Box`."""

    centre: Point
    radius: float
    colour: str
    note: str = ""


@dataclass(frozen=True)
class Label:
    """One line of text; `at` is on its baseline, at its start, middle or end."""

    at: Point
    text: str
    size: float = 12
    anchor: Anchor = "start"
    colour: str = INK


Shape = Line | Box | Dot | Label


@dataclass(frozen=True)
class Drawing:
    """Shapes in the order in which they are drawn, on white. title: what the picture shows, for those who hear it."""

    width: float
    height: float
    title: str
    shapes: tuple[Shape, ...]


def moved(shape: Shape, right: float, down: float) -> Shape:
    """The shape elsewhere."""
    if isinstance(shape, Line):
        return replace(shape, points=tuple((x + right, y + down) for x, y in shape.points))
    if isinstance(shape, Box):
        return replace(shape, corner=(shape.corner[0] + right, shape.corner[1] + down))
    if isinstance(shape, Dot):
        return replace(shape, centre=(shape.centre[0] + right, shape.centre[1] + down))
    return replace(shape, at=(shape.at[0] + right, shape.at[1] + down))


def stacked(drawings: Sequence[Drawing], gap: float = 24) -> Drawing:
    """Drawings one under the other, each below its title."""
    shapes: list[Shape] = []
    height = 0.0
    for drawing in drawings:
        shapes.append(Label((8, height + 20), drawing.title, 15))
        shapes += [moved(shape, 0, height + 28) for shape in drawing.shapes]
        height += 28 + drawing.height + gap
    width = max((drawing.width for drawing in drawings), default=0)
    return Drawing(width, height, "; ".join(drawing.title for drawing in drawings), tuple(shapes))


def shade(fraction: float) -> str:
    """From white at 0 to a deep blue at 1, evenly for the eye; what lies outside is cut off."""
    part = min(max(fraction, 0.0), 1.0)
    red, green, blue = (round(255 + (end - 255) * part) for end in (16, 56, 120))
    return f"#{red:02x}{green:02x}{blue:02x}"


def legend(entries: Iterable[tuple[str, str]], at: Point) -> tuple[Shape, ...]:
    """Names beside their colours, (name, colour) one under the other."""
    shapes: list[Shape] = []
    for index, (name, colour) in enumerate(entries):
        y = at[1] + 18 * index
        shapes += [Box((at[0], y), (12, 12), colour), Label((at[0] + 18, y + 10), name)]
    return tuple(shapes)
