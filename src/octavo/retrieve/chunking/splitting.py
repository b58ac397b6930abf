"""`split`: a document's chunks, each a range of its text with the place that a citation needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

from octavo.errors import OctavoError, UnknownNameError, nearest
from octavo.retrieve.chunking.recursive import Length, Range, Recursive, check_sizes, merge
from octavo.retrieve.documents.document import Document, Kind

if TYPE_CHECKING:
    from octavo.text import Tokenizer

CHUNK_SIZE, OVERLAP = 1000, 100
By = Literal["recursive", "sentences", "headings", "tokens", "code"]


@dataclass(frozen=True)
class Chunk:
    """A passage: `document.text[start:end] == text`, always.

    path: the document's. page: of the first character; None for a format without pages. line: of the first character,
    from 1. headings: the path of headings above it, outermost first.
    """

    text: str
    start: int
    end: int
    path: str
    line: int
    page: int | None = None
    headings: tuple[str, ...] = ()


def split(
    document: Document,
    *,
    by: By | None = None,
    chunk_size: int = CHUNK_SIZE,
    overlap: int = OVERLAP,
    tokenizer: Tokenizer | None = None,
) -> list[Chunk]:
    """Cut a document into chunks of at most chunk_size, in order of their start.

    by: recursive (separators from coarse to fine), sentences (whole ones), headings (a section where it fits), tokens
    (windows of tokens), code (functions and classes). None: code for source code, recursive for all else.
    chunk_size, overlap: in characters, or in tokens where a tokenizer is given. overlap: how much of a chunk's end the
    next one may begin with; sections and functions are only repeated where they had to be cut.
    Raises OctavoError for sizes that cannot be kept, or tokens without a tokenizer; UnknownNameError for another `by`.
    """
    check_sizes(chunk_size, overlap)
    if by is None:
        by = "code" if any(span.kind == "symbol" for span in document.spans) else "recursive"
    if by not in get_args(By):
        raise UnknownNameError(f"there is no way to split called {by!r}{nearest(by, get_args(By))}", param="by")
    if by == "tokens" and tokenizer is None:
        raise OctavoError("splitting by tokens needs a tokenizer; give one", param="tokenizer")
    length = _length(tokenizer)
    ranges = _ranges(document, by, Recursive(chunk_size, overlap, length), tokenizer)
    if tokenizer is not None:
        ranges = _held_to(document.text, ranges, length, tokenizer, chunk_size)
    return [chunk_of(document, start, end) for start, end in ranges if document.text[start:end].strip()]


def chunk_of(document: Document, start: int, end: int) -> Chunk:
    """The chunk at a range of a document's text."""
    return Chunk(
        text=document.text[start:end],
        start=start,
        end=end,
        path=document.path,
        line=document.line_at(start),
        page=document.page_at(start),
        headings=document.headings_at(start),
    )


def _ranges(document: Document, by: By, fine: Recursive, tokenizer: Tokenizer | None) -> Sequence[Range]:
    text = document.text
    if by == "tokens":
        from octavo.retrieve.chunking.tokens import token_windows

        assert tokenizer is not None
        return token_windows(text, tokenizer, fine.chunk_size, fine.overlap)
    if by in ("headings", "code"):
        from octavo.retrieve.chunking.sections import Sections

        parts = _of_kind(document, "heading" if by == "headings" else "symbol")
        return Sections(parts, _of_kind(document, "block", "table"), fine, pack=by == "code").ranges(text)
    if by == "sentences":
        return _by_sentences(document, fine)
    return _between_rows(document, fine)


def _by_sentences(document: Document, fine: Recursive) -> list[Range]:
    """Whole sentences up to the size; one that is longer is cut as `recursive` would."""
    from octavo.retrieve.chunking.sentences import sentence_ranges

    text = document.text
    found: list[Range] = []
    small: list[Range] = []
    for start, end in sentence_ranges(text, _of_kind(document, "block", "table")):
        if fine.length(text[start:end].strip()) <= fine.chunk_size:
            small.append((start, end))
            continue
        found += merge(text, small, fine.chunk_size, fine.overlap, fine.length)
        found += [(start + low, start + high) for low, high in fine.ranges(text[start:end])]
        small = []
    return [*found, *merge(text, small, fine.chunk_size, fine.overlap, fine.length)]


def _between_rows(document: Document, fine: Recursive) -> list[Range]:
    """As `fine` cuts, except a table that is longer than a chunk: that one is cut between its rows, by itself."""
    text, cut, found = document.text, 0, list[Range]()
    for start, end in _of_kind(document, "table"):
        if start < cut or fine.length(text[start:end]) < fine.chunk_size:
            continue
        ends = [start + line.end() for line in re.finditer("\n", text[start:end])]
        rows = [row for row in pairwise([start, *ends, end]) if row[0] < row[1]]
        found += [(cut + low, cut + high) for low, high in fine.ranges(text[cut:start])]
        for low, high in merge(text, rows, fine.chunk_size, 0, fine.length):
            whole = fine.length(text[low:high]) <= fine.chunk_size
            found += [(low, high)] if whole else [(low + a, low + b) for a, b in fine.ranges(text[low:high])]
        cut = end
    return [*found, *((cut + low, cut + high) for low, high in fine.ranges(text[cut:]))]


def _of_kind(document: Document, *kinds: Kind) -> list[Range]:
    return [(span.start, span.end) for span in document.spans if span.kind in kinds]


def _length(tokenizer: Tokenizer | None) -> Length:
    if tokenizer is None:
        return len
    from octavo.retrieve.chunking.tokens import counter

    return counter(tokenizer)


def _held_to(text: str, ranges: Sequence[Range], length: Length, tokenizer: Tokenizer, chunk_size: int) -> list[Range]:
    """Ranges with those cut again whose tokens, joined up, turn out to be more than their pieces' sum."""
    from octavo.retrieve.chunking.tokens import token_windows

    held: list[Range] = []
    for start, end in ranges:
        if length(text[start:end]) <= chunk_size:
            held.append((start, end))
        else:
            windows = token_windows(text[start:end], tokenizer, chunk_size, 0)
            held += [(start + low, start + high) for low, high in windows]
    return held
