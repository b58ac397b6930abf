"""A document as everything above sees it: one canonical text, and spans that say what each part of it is.

The text is canonical: Unicode NFC, `\\n` line ends, no byte-order mark. Offsets are characters (code points) of that
text, so a citation is (path, sha256, start, end) and `text[start:end]` is what a person is shown.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

_SURROGATE = re.compile("[\ud800-\udfff]")
Kind = Literal["page", "heading", "row", "symbol", "block", "table"]


@dataclass(frozen=True)
class Span:
    """`text[start:end]` is one part of a document.

    kind: page (of a PDF; a slide; label is its number) · heading (a section, from its heading's line to the next
    heading of the same or a higher level; label is the heading) · row (of a table; label is its number) · symbol (of
    source code; label is its dotted name) · block (a code fence, better not cut) · table (lines of cells between `|`,
    better cut between lines alone; label is the names of its columns, `|` between them, empty where it has none).
    level: depth of a heading or symbol, from 1; 0 for the other kinds.
    """

    kind: Kind
    start: int
    end: int
    label: str = ""
    level: int = 0


@dataclass(frozen=True)
class Document:
    """A file's canonical text with its parts.

    path: as it was given to the reader. title: the file's own, else its name. media_type: such as application/pdf.
    spans: in order of start, outer before inner. metadata: what the file says of itself, such as its author.
    warnings: sentences on what could not be read as it should, such as a page without text.
    """

    path: str
    title: str
    text: str
    media_type: str
    spans: tuple[Span, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """The hash of the canonical text, which citations and incremental indexing rest on."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def page_at(self, offset: int) -> int | None:
        """The number of the page (or slide) that holds a character; None for formats without pages."""
        position = bisect_right(self._page_starts, offset) - 1
        return int(self._pages[position].label) if position >= 0 else None

    def line_at(self, offset: int) -> int:
        """The line that holds a character, from 1."""
        return bisect_right(self._line_starts, offset)

    def headings_at(self, offset: int) -> tuple[str, ...]:
        """The path of headings (or of a code's symbols) above a character, outermost first."""
        inside: list[Span] = []
        for span in self._sections[: bisect_right(self._section_starts, offset)]:
            if offset < span.end:
                inside.append(span)
        return tuple(span.label for span in inside)

    def tables_in(self, start: int, end: int) -> tuple[Span, ...]:
        """The tables that characters start to end touch, in order."""
        return tuple(span for span in self._tables if span.start < end and start < span.end)

    @cached_property
    def _tables(self) -> tuple[Span, ...]:
        return tuple(span for span in self.spans if span.kind == "table")

    @cached_property
    def _pages(self) -> tuple[Span, ...]:
        return tuple(span for span in self.spans if span.kind == "page")

    @cached_property
    def _page_starts(self) -> list[int]:
        return [span.start for span in self._pages]

    @cached_property
    def _sections(self) -> tuple[Span, ...]:
        return tuple(span for span in self.spans if span.kind in ("heading", "symbol"))

    @cached_property
    def _section_starts(self) -> list[int]:
        return [span.start for span in self._sections]

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(index + 1 for index, character in enumerate(self.text) if character == "\n")]


@dataclass(frozen=True)
class Skipped:
    """A file that gave no document, and why, in one sentence."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Limits:
    """What one file may cost before it is skipped.

    file_bytes: on disk. unpacked_bytes: of an archive's parts together. seconds: of reading. memory_bytes: of the
    process that reads PDF, office and web files.
    """

    file_bytes: int = 64 << 20
    unpacked_bytes: int = 256 << 20
    seconds: float = 60.0
    memory_bytes: int = 2 << 30


class Writer:
    """Builds a canonical text piece by piece and remembers where its parts lie. Blocks are a blank line apart."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._starts: list[int] = []
        self._spans: list[Span] = []

    @property
    def position(self) -> int:
        """Where the next character will stand."""
        return self._length

    def block(self, text: str, *, gap: str = "\n\n") -> tuple[int, int]:
        """Append a block, `gap` after what came before; where it stands. An empty one leaves no trace."""
        text = canonical(text).strip("\n")
        if not text.strip():
            return self._length, self._length
        if self._length:
            self._append(gap)
        start = self._length
        self._starts.append(start)
        self._append(text)
        return start, self._length

    def heading(self, text: str, level: int) -> None:
        """Append a heading; its section's end is known when `finish` sees the next one."""
        start, end = self.block(" ".join(text.split()))
        if end > start:
            self._spans.append(Span("heading", start, end, canonical(" ".join(text.split())), level))

    def mark(self, kind: Kind, start: int, label: str = "", level: int = 0) -> None:
        """Call the blocks written since position `start` one part; nothing written, no part."""
        first = bisect_left(self._starts, start)
        if first < len(self._starts):
            self._spans.append(Span(kind, self._starts[first], self._length, label, level))

    def finish(self) -> tuple[str, tuple[Span, ...]]:
        """The text and its spans, sections closed, in order."""
        text = "".join(self._pieces)
        return text, in_order(close_sections(self._spans, len(text)))

    def _append(self, text: str) -> None:
        self._pieces.append(text)
        self._length += len(text)


def canonical(text: str) -> str:
    """Unicode NFC with `\\n` line ends; NUL, which no store takes, is a space, and a lone surrogate U+FFFD."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\0", " ")
    return unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", text))


def close_sections(spans: list[Span], end: int) -> list[Span]:
    """Headings that cover only their own line, stretched to the next heading of the same or a higher level."""
    closed, following = [], list[Span]()  # following: the nearest heading after this one of each level, nearest last
    for span in reversed(spans):
        if span.kind != "heading":
            closed.append(span)
            continue
        following = [other for other in following if other.level <= span.level]
        closed.append(Span("heading", span.start, following[-1].start if following else end, span.label, span.level))
        following.append(span)
    return closed[::-1]


def in_order(spans: list[Span]) -> tuple[Span, ...]:
    """Spans by start, outer before inner."""
    return tuple(sorted(spans, key=lambda span: (span.start, -span.end, span.level)))


def file_title(path: str | Path) -> str:
    """A title for a file that names none: its name without the suffix."""
    return Path(path).stem
