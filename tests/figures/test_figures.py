"""Figures are well-formed, need nothing else, escape what they show, and are alike as SVG and as pixels."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from octavo.errors import OctavoError, UnsupportedError
from octavo.figures.axes import LogAxis, log_axis, short
from octavo.figures.drawing import Box, Dot, Drawing, Label, Line, moved, shade, stacked
from octavo.figures.page import Heading, Paragraph, Table, save_figure, to_html
from octavo.figures.png import SCALE, to_png
from octavo.figures.svg import to_svg

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '<script>alert("&amp;")</script>'
DRAWING = Drawing(
    100, 60, f"A {NASTY}",
    (
        Box((10, 10), (30, 20), "#ff0000", NASTY), Dot((70, 20), 5, "#00ff00", "a dot"),
        Line(((10, 50), (90, 50)), "#0000ff", 2), Line(((10, 55), (90, 55)), dashed=True), Label((50, 40), NASTY, 8),
    ),
)  # fmt: skip
XML_TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="￾￿"))


def test_a_drawing_is_well_formed_svg_with_its_shapes() -> None:
    root = ET.fromstring(to_svg(DRAWING))
    assert (root.get("width"), root.get("height")) == ("100", "60")
    assert [child.tag.removeprefix(SVG) for child in root] == [
        "title", "rect", "rect", "circle", "polyline", "polyline", "text",
    ]  # fmt: skip
    assert root.findtext(f"{SVG}text") == NASTY and root[2].findtext(f"{SVG}title") == NASTY


@given(XML_TEXT)
def test_any_text_survives_in_svg(text: str) -> None:
    drawing = Drawing(1, 1, text, (Label((0, 0), text), Dot((0, 0), 1, "#000", text)))
    assert (ET.fromstring(to_svg(drawing)).findtext(f"{SVG}text") or "") == text


def test_the_png_has_the_same_shapes_at_twice_the_size() -> None:
    image = Image.open(io.BytesIO(to_png(DRAWING)))
    assert image.size == (100 * SCALE, 60 * SCALE)
    places = {(12, 12): (255, 0, 0), (38, 28): (255, 0, 0), (70, 20): (0, 255, 0), (50, 50): (0, 0, 255)}
    for (x, y), colour in places.items():
        assert image.getpixel((x * SCALE, y * SCALE)) == colour
    assert image.getpixel((5 * SCALE, 5 * SCALE)) == (255, 255, 255)
    dashes = {image.getpixel((x * SCALE, 55 * SCALE)) for x in range(12, 88)}
    assert len(dashes) > 1, "a dashed line has gaps"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("rect", "circle", "polyline"):
            return
        assert self.open.pop() == tag


def test_a_page_stands_alone_and_shows_its_text_as_text() -> None:
    page = to_html(NASTY, [Heading(NASTY), Paragraph(NASTY), Table((NASTY, "b"), ((NASTY, "2"),)), DRAWING])
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen
    assert tags.references == [] and not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    assert page.count("&lt;script&gt;") == 10


def test_files_are_written_whole_and_wrong_endings_are_refused(tmp_path: Path) -> None:
    save_figure(tmp_path / "a.html", "t", [DRAWING])
    save_figure(tmp_path / "a.png", "t", [Paragraph("left out"), DRAWING, DRAWING])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.png"]
    both = stacked([DRAWING, DRAWING])
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (both.width * SCALE, both.height * SCALE)
    with pytest.raises(UnsupportedError, match=r"\.html or \.png, not as 'a\.jpg'"):
        save_figure(tmp_path / "a.jpg", "t", [])
    with pytest.raises(OctavoError, match="there is no folder"):
        save_figure(tmp_path / "nowhere/a.png", "t", [])


@given(st.lists(st.floats(1e-9, 1e15), min_size=1, max_size=5))
def test_a_logarithmic_axis_holds_its_values_in_order(values: list[float]) -> None:
    axis = log_axis(values, 100, 500)
    places = [axis.at(value) for value in sorted(values)]
    assert places == sorted(places) and places[0] >= 100 and places[-1] <= 500
    assert all(axis.low <= value * (1 + 1e-8) and value <= axis.high * (1 + 1e-8) for value in values)
    assert len(axis.ticks()) >= 2


def test_equal_ratios_are_equal_distances() -> None:
    axis = LogAxis(1, 1000, 0, 300)
    assert [round(axis.at(value), 6) for value in (1, 10, 100, 1000)] == [0, 100, 200, 300]
    assert LogAxis(1, 100, 200, 0).at(10) == pytest.approx(100)
    assert [short(value) for value in (0.5, 999, 1500, 2e9, 3.25e12)] == ["0.5", "999", "1.5k", "2G", "3.25T"]


def test_shades_go_from_white_to_dark_and_shapes_move_whole() -> None:
    assert shade(-1) == shade(0) == "#ffffff" and shade(1) == shade(2) != "#ffffff"
    for shape in DRAWING.shapes:
        assert moved(moved(shape, 3, 4), -3, -4) == shape != moved(shape, 3, 4)
