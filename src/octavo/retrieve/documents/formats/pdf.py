"""PDF by pypdf: the text layer page by page, lines joined into paragraphs, bookmarks as headings.

The order is the file's own, which in typeset papers is the reading order, columns included. Pages are kept. A page
without text is reported (a scan needs OCR first, which is not done here).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.errors import FormatError
from octavo.retrieve.documents.document import Document, Limits, Span, canonical, close_sections, file_title, in_order
from octavo.retrieve.documents.formats.pdf_lines import drop_repeated, join_lines, mend_letters, words_of

if TYPE_CHECKING:
    import pypdf

_METADATA = {"/Title": "title", "/Author": "author", "/Subject": "subject", "/CreationDate": "created"}
_GENERIC_TITLE = re.compile(r"(?i)untitled.*|microsoft word.*|.*\.(docx?|tex|dvi|indd|pdf)|\W*")
_NUMBERED = re.compile(r"(?<![^\n])(\d{1,2}(?:\.\d{1,2}){0,3})\.?[ ]+[A-Z][^\n]{1,68}[^\n.!?:;,](?=\n\n)")
MAX_NAMED_PAGES = 12


def read(path: Path, limits: Limits) -> Document:
    """The document of a PDF file. Raises FormatError for one that is broken, encrypted, or has no text layer."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs each oddity of a file; ours are warnings
    deadline = time.monotonic() + limits.seconds
    with pypdf.PdfReader(path) as reader:
        _decrypt(reader)
        pages = [mend_letters(text) for text in _pages(reader, deadline)]
        outline = list(_outline(reader, reader.outline, 1))
        said = _metadata(reader)
    bodies = _join_pages(pages)
    text, spans = _assemble(bodies)
    spans += _bookmarked(text, spans, outline) if outline else _numbered(text)
    empty = [number for number, body in enumerate(bodies, 1) if not body]
    if len(empty) == len(bodies):
        raise FormatError("it has no text layer (scanned pages?); run OCR on it first, such as ocrmypdf")
    title = said.get("title", "")
    if _GENERIC_TITLE.fullmatch(title):
        title = file_title(path)
    warnings = (_without_text(empty),) if empty else ()
    return Document(str(path), title, text, "application/pdf", in_order(spans), said, warnings)


def _decrypt(reader: pypdf.PdfReader) -> None:
    """Open what needs no password to be read; refuse what does."""
    if not reader.is_encrypted:
        return
    try:
        opened = bool(reader.decrypt(""))
    except Exception as error:  # an AES file where no cipher library is installed
        raise FormatError("it is encrypted; save it without a password") from error
    if not opened:
        raise FormatError("it is encrypted with a password; save it without one")


def _pages(reader: pypdf.PdfReader, deadline: float) -> Iterator[str]:
    for number, page in enumerate(reader.pages):
        if time.monotonic() > deadline:
            raise FormatError(f"reading takes too long (stopped after page {number} of {len(reader.pages)}); split it")
        yield canonical(page.extract_text())


def _join_pages(pages: list[str]) -> list[str]:
    """Each page's paragraphs, a blank line apart."""
    known = words_of(pages)
    kept = drop_repeated([page.split("\n") for page in pages])
    return ["\n\n".join(join_lines(lines, known)) for lines in kept]


def _assemble(bodies: list[str]) -> tuple[str, list[Span]]:
    text, spans = "", list[Span]()
    pieces: list[str] = []
    length = 0
    for number, body in enumerate(bodies, 1):
        if body:
            gap = "\n\n" if length else ""
            start = length + len(gap)
            pieces += [gap, body]
            length = start + len(body)
            spans.append(Span("page", start, length, str(number)))
    text = "".join(pieces)
    return text, spans


def _outline(reader: pypdf.PdfReader, items: Any, level: int) -> Iterator[tuple[str, int, int]]:
    """(title, level, page number) of each bookmark, in order; broken ones are left out."""
    for item in items:
        if isinstance(item, list):
            yield from _outline(reader, item, level + 1)
            continue
        try:
            page = reader.get_destination_page_number(item)
        except Exception:  # a bookmark to a page that is not there
            continue
        if page is not None and page >= 0 and item.title:
            yield " ".join(canonical(str(item.title)).split()), level, page + 1


def _bookmarked(text: str, pages: list[Span], outline: list[tuple[str, int, int]]) -> list[Span]:
    """Bookmarks as sections: each starts where its title stands on its page, else at the page's start."""
    spans: list[Span] = []
    by_number = {int(page.label): page for page in pages}
    at = 0
    for title, level, number in outline:
        page = by_number.get(number)
        if page is None:
            continue
        words = r"\s+".join(re.escape(word) for word in title.split())
        numbered = rf"(?m)^(?:(?:[A-Z]|\d+)(?:\.\d+)*\.?\s+)?{words}(?!\w)"
        found = re.compile(numbered, re.I).search(text, max(page.start, at), page.end)
        at = found.start() if found else max(page.start, at)
        spans.append(Span("heading", at, at, title, level))
    return close_sections(spans, len(text))


def _numbered(text: str) -> list[Span]:
    """Sections of a file without bookmarks: lines of their own that count on, such as `2.1 Related Work`."""
    spans: list[Span] = []
    last: tuple[int, ...] = (0,)
    for found in _NUMBERED.finditer(text):
        number = tuple(int(part) for part in found[1].split("."))
        if number > last and number[0] <= last[0] + 1 and all(part > 0 for part in number):
            spans.append(Span("heading", found.start(), found.end(), found[0], len(number)))
            last = number
    return close_sections(spans, len(text))


def _metadata(reader: pypdf.PdfReader) -> dict[str, str]:
    try:
        said: Mapping[str, Any] = reader.metadata or {}
        found = {name: " ".join(str(said[key]).split()) for key, name in _METADATA.items() if said.get(key)}
    except Exception:  # a broken information dictionary costs the title, not the document
        return {}
    return {name: value for name, value in found.items() if value}


def _without_text(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:MAX_NAMED_PAGES]))
    more = f" and {len(numbers) - MAX_NAMED_PAGES} more" if len(numbers) > MAX_NAMED_PAGES else ""
    return f"no text on page{'s' if len(numbers) > 1 else ''} {listed}{more} (pictures?); OCR would find it"
