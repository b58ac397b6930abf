"""A `Drawing` as SVG text, to stand in a page or alone. Everything that is text is escaped."""

from __future__ import annotations

from html import escape

from octavo.figures.drawing import Box, Dot, Drawing, Label, Line, Shape


def to_svg(drawing: Drawing) -> str:
    """One <svg> element with its size, its title for screen readers, and a tip on each shape that has a note."""
    body = "".join(_element(shape) for shape in drawing.shapes)
    size = f'width="{drawing.width:g}" height="{drawing.height:g}" viewBox="0 0 {drawing.width:g} {drawing.height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif">'
        f'<title>{escape(drawing.title)}</title><rect width="100%" height="100%" fill="#fff"/>{body}</svg>'
    )


def _element(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
        dashes = ' stroke-dasharray="5 4"' if shape.dashed else ""
        style = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"{dashes}'
        return f'<polyline points="{points}" {style}/>'
    if isinstance(shape, Box):
        (x, y), (width, height) = shape.corner, shape.size
        place = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
        return _noted("rect", f'{place} fill="{shape.colour}"', shape.note)
    if isinstance(shape, Dot):
        x, y = shape.centre
        return _noted("circle", f'cx="{x:.2f}" cy="{y:.2f}" r="{shape.radius:g}" fill="{shape.colour}"', shape.note)
    assert isinstance(shape, Label)
    x, y = shape.at
    style = f'font-size="{shape.size:g}" text-anchor="{shape.anchor}" fill="{shape.colour}" xml:space="preserve"'
    return f'<text x="{x:.2f}" y="{y:.2f}" {style}>{escape(shape.text)}</text>'


def _noted(name: str, attributes: str, note: str) -> str:
    return f"<{name} {attributes}><title>{escape(note)}</title></{name}>" if note else f"<{name} {attributes}/>"
