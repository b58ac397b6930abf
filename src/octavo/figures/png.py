"""A `Drawing` as a PNG, by pillow (`octavo[images]`), at twice its size so that it stays sharp.

The font is the one that pillow carries, which has Latin letters; a page shows every script.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from octavo.errors import MissingDependencyError
from octavo.figures.drawing import Box, Dot, Drawing, Line, Point, Shape

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SCALE = 2
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
DASH = 5.0


def to_png(drawing: Drawing) -> bytes:
    """The bytes of a PNG file. Raises MissingDependencyError without pillow."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise MissingDependencyError(
            "PNG files are drawn by pillow, which is not installed; pip install 'octavo[images]', or write .html"
        ) from None
    size = (math.ceil(drawing.width * SCALE), math.ceil(drawing.height * SCALE))
    image = Image.new("RGB", size, "#ffffff")
    draw = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        _draw(draw, shape)
    result = io.BytesIO()
    image.save(result, "PNG", optimize=True)
    return result.getvalue()


def _draw(draw: ImageDraw, shape: Shape) -> None:
    if isinstance(shape, Line):
        for start, end in _dashes(shape) if shape.dashed else zip(shape.points, shape.points[1:], strict=False):
            draw.line([_scaled(start), _scaled(end)], fill=shape.colour, width=max(1, round(shape.width * SCALE)))
    elif isinstance(shape, Box):
        (x, y), (width, height) = shape.corner, shape.size
        if width * SCALE >= 1 and height * SCALE >= 1:
            left, top = _scaled((x, y))
            right, bottom = _scaled((x + width, y + height))
            draw.rectangle((left, top, right - 1, bottom - 1), fill=shape.colour)
    elif isinstance(shape, Dot):
        (x, y), radius = shape.centre, shape.radius
        draw.ellipse((_scaled((x - radius, y - radius)), _scaled((x + radius, y + radius))), fill=shape.colour)
    else:
        from PIL import ImageFont

        font = ImageFont.load_default(shape.size * SCALE)
        draw.text(_scaled(shape.at), shape.text, fill=shape.colour, font=font, anchor=ANCHORS[shape.anchor])


def _scaled(point: Point) -> Point:
    return round(point[0] * SCALE), round(point[1] * SCALE)


def _dashes(line: Line) -> list[tuple[Point, Point]]:
    """Every second piece of each straight part."""
    found = []
    for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
        count = max(1, round(math.hypot(x1 - x0, y1 - y0) / DASH))
        for index in range(0, count, 2):
            first, last = index / count, min(1.0, (index + 1) / count)
            found.append(
                ((x0 + (x1 - x0) * first, y0 + (y1 - y0) * first), (x0 + (x1 - x0) * last, y0 + (y1 - y0) * last))
            )
    return found
