"""HTML: the page's main text by trafilatura (Barbaresi, ACL 2021), without menus, scripts, sidebars and comments.

Nothing is fetched: styles, frames and pictures of other places stay where they are. A picture gives its alternative
text. Where trafilatura finds no main text, the text of the whole body is taken and that is said.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octavo.errors import MissingDependencyError
from octavo.retrieve.documents.cells import write_table
from octavo.retrieve.documents.document import Document, Limits, Writer, file_title

_METADATA = ("date", "sitename", "url", "language", "license")


def read(path: Path, limits: Limits) -> Document:
    """The document of an HTML file. Raises MissingDependencyError where trafilatura is not installed."""
    trafilatura = _trafilatura()
    data = path.read_bytes()
    writer, warnings = Writer(), ()
    found: Any = trafilatura.bare_extraction(
        data, with_metadata=True, include_comments=False, include_tables=True, include_images=True, favor_recall=True
    )
    if found is not None and found.body is not None:
        _blocks(found.body, writer)
    if not writer.position:
        writer.block(trafilatura.html2txt(data))
        warnings = ("no main text was found; the whole page was read",) if writer.position else ()
    text, spans = writer.finish()
    said = {name: str(value) for name in _METADATA if (value := getattr(found, name, None))}
    first = next((span.label for span in spans if span.kind == "heading"), file_title(path))
    title = getattr(found, "title", None) or first
    return Document(str(path), title, text, "text/html", spans, said, warnings)


def main_text(page: str) -> str:
    """A page's main text without its structure. Raises MissingDependencyError where trafilatura is not installed."""
    trafilatura = _trafilatura()
    found = trafilatura.extract(page, include_comments=False, favor_recall=True) or trafilatura.html2txt(page)
    return str(found or "")


def _trafilatura() -> Any:
    try:
        import trafilatura
    except ImportError as error:
        raise MissingDependencyError(
            "HTML needs trafilatura, which is not installed; run: pip install 'octavo[docs]'"
        ) from error
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # what it would say is said by our errors
    return trafilatura


def _blocks(parent: Any, writer: Writer) -> None:
    """The blocks of trafilatura's simplified tree: head, p, list, table, quote, code, graphic. parent: an lxml element.

    Text that lies between blocks is a block too.
    """
    writer.block(_line(parent.text))
    for element in parent:
        if element.tag == "head":
            rend = element.get("rend", "h2")
            writer.heading(_words(element), int(rend[1]) if rend[1:].isdecimal() else 2)
        elif element.tag == "table":
            _table(element, writer)
        elif element.tag == "list":
            items = (_words(item) for item in element.iter("item"))
            writer.block("\n".join(f"- {item}" for item in items if item))
        elif element.tag == "code":
            writer.block("".join(element.itertext()))
        elif element.tag == "graphic":
            writer.block(_picture(element))
        elif element.tag in ("quote", "div", "main", "body") and len(element):
            _blocks(element, writer)
        else:
            writer.block(_words(element))
        writer.block(_line(element.tail))


def _table(element: Any, writer: Writer) -> None:
    """A table's rows; its first names the columns where all its cells are heads."""
    rows = [list(row.iter("cell")) for row in element.iter("row")]
    heads = rows[0] if rows and all(cell.get("role") == "head" for cell in rows[0]) else []
    write_table(writer, [[_words(cell) for cell in row] for row in rows], named=bool(heads))


def _words(element: Any) -> str:
    return _line("".join(_pieces(element)))


def _pieces(element: Any) -> Iterator[str]:
    """The text inside an element; a line break is a space, a picture its alternative text."""
    yield element.text or ""
    for part in element:
        if part.tag == "graphic":
            yield f" {_picture(part)} "
        elif part.tag == "lb":
            yield " "
        yield from _pieces(part)
        yield part.tail or ""


def _picture(element: Any) -> str:
    words = (element.get("alt") or element.get("title") or "").strip()
    return f"[Picture: {words}]" if words else ""


def _line(text: str | None) -> str:
    return " ".join((text or "").split())
