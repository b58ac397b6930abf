"""`split`: a document's chunks, each a range of its text with the place a citation needs."""

from __future__ import annotations

from dataclasses import dataclass

from octavo.retrieve.chunking.recursive import Recursive
from octavo.retrieve.documents.document import Document

CHUNK_SIZE, OVERLAP = 1000, 100


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


def split(document: Document, *, chunk_size: int = CHUNK_SIZE, overlap: int = OVERLAP) -> list[Chunk]:
    """Cut a document into chunks of at most chunk_size characters, in order of their start.

    overlap: how much of a chunk's end the next one may begin with, in the same unit.
    Raises OctavoError for sizes that cannot be kept.
    """
    ranges = Recursive(chunk_size, overlap).ranges(document.text)
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
