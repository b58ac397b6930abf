"""Tables, words and drawings as one HTML page that needs nothing else, or the drawings alone as a PNG.

No script, no font, no address: a page can be mailed and opened offline. Written beside and renamed, so that no reader
meets half a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from octavo.errors import OctavoError, UnsupportedError
from octavo.figures.drawing import Drawing, stacked
from octavo.figures.png import to_png
from octavo.figures.svg import to_svg
from octavo.writing import whole_file

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1e21; background: #fff; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #e3e5e8; white-space: pre; }
figure { margin: 1rem 0; overflow-x: auto; } figcaption { font-weight: 600; } svg { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Words."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells, each as long as the head."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Part = Heading | Paragraph | Table | Drawing


def to_html(title: str, parts: Sequence[Part]) -> str:
    """A whole document; all text is escaped."""
    body = "\n".join(_part(part) for part in parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def check_figure_path(path: Path) -> None:
    """Raise before any work is done when `save_figure` could not write that file."""
    if path.suffix.lower() not in (".html", ".png"):
        raise UnsupportedError(f"a figure is written as .html or .png, not as {path.name!r}; change its ending")
    if not path.parent.is_dir():
        raise OctavoError(f"there is no folder {path.parent} to write {path.name} into; make it first")


def save_figure(path: Path, title: str, parts: Sequence[Part]) -> None:
    """Write an .html page with all parts, or a .png of the drawings.

    Raises UnsupportedError for another ending, MissingDependencyError for a .png without pillow, OctavoError where the
    file cannot be written.
    """
    check_figure_path(path)
    if path.suffix.lower() == ".png":
        content = to_png(stacked([part for part in parts if isinstance(part, Drawing)]))
    else:
        content = to_html(title, parts).encode()
    try:
        with whole_file(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise OctavoError(f"{path} cannot be written ({error.strerror}); check its folder and the disk") from None


def _part(part: Part) -> str:
    if isinstance(part, Heading):
        return f"<h2>{escape(part.text)}</h2>"
    if isinstance(part, Paragraph):
        return f"<p>{escape(part.text)}</p>"
    if isinstance(part, Drawing):
        return f"<figure><figcaption>{escape(part.title)}</figcaption>{to_svg(part)}</figure>"
    head = "".join(f"<th>{escape(cell)}</th>" for cell in part.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in part.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
