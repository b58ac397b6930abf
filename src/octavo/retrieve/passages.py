"""What is stored of a document: where its passages lie, what of them is searched, and their vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from octavo.retrieve.chunking import Chunk, split
from octavo.retrieve.documents import Document
from octavo.retrieve.documents.cells import SEPARATOR, cells_of
from octavo.retrieve.search import TextEncoder, knows
from octavo.retrieve.stores.store import Place, Scalar, Source, Vectors

if TYPE_CHECKING:
    from octavo.text import Tokenizer

BATCH = 256
"""Passages that are embedded together, over several files where these are small."""


@dataclass(frozen=True)
class Splitting:
    """How documents are cut: characters of a passage, and how many it shares with the next."""

    chunk_size: int = 1000
    overlap: int = 100


@dataclass(frozen=True)
class Prepared:
    """A document that waits for its vectors.

    texts: what is embedded, a passage each. known: whether the encoder knows the document's words.
    """

    source: Source
    places: list[Place]
    texts: list[str]
    known: bool


def prepare(
    name: str,
    fingerprint: str,
    document: Document,
    splitting: Splitting,
    encoder: TextEncoder | None,
    tokenizer: Tokenizer | None = None,
) -> Prepared:
    """Cut a document. tokenizer: the splitting counts its tokens, not characters."""
    size, overlap = splitting.chunk_size, splitting.overlap
    chunks = split(document, chunk_size=size, overlap=overlap, tokenizer=tokenizer)
    places = [Place(chunk.start, chunk.end, chunk.page, chunk.line, _context(document, chunk)) for chunk in chunks]
    texts = [f"{place.context}\n{chunk.text}" for place, chunk in zip(places, chunks, strict=True)]
    known = encoder is not None and (not texts or knows(encoder, texts))
    return Prepared(Source(name, document.text, fingerprint, _metadata(name, document)), places, texts, known)


def embed(
    encoder: TextEncoder,
    batch: Sequence[Prepared],
    embedded: Callable[[int, int], None] = lambda done, of: None,
    *,
    at_once: int = BATCH,
) -> list[Vectors]:
    """Vectors of each document of a batch: (passages, dimensions), zeros where the encoder does not know it.

    embedded: called after `at_once` passages each, with how many just got their vectors, and of how many; what it
    raises ends the work.
    """
    texts = [text for prepared in batch if prepared.known for text in prepared.texts]
    made = [np.zeros((0, encoder.dimensions), dtype=np.float32)]
    for start in range(0, len(texts), at_once):
        made.append(encoder.embed(texts[start : start + at_once], kind="passage"))
        embedded(len(made[-1]), len(texts))
    known = iter(np.concatenate(made))
    unknown = np.zeros(encoder.dimensions, dtype=np.float32)
    rows = [[next(known) if prepared.known else unknown for _ in prepared.texts] for prepared in batch]
    return [np.array(found, dtype=np.float32).reshape(len(found), -1) if found else made[0] for found in rows]


def _context(document: Document, chunk: Chunk) -> str:
    """What a passage stands under, outermost first, and a line for the names of each table's columns."""
    path = " > ".join(dict.fromkeys((document.title, *chunk.headings)))
    tables = [table for table in document.tables_in(chunk.start, chunk.end) if table.label]
    if tables and tables[0].start < chunk.start and document.text[chunk.start - 1] != "\n":
        row, names = _within_row(document.text, chunk.start, tables[0].label)
        return f"{path} > {row}\n{names}"
    return "\n".join((path, *dict.fromkeys(table.label for table in tables)))


def _within_row(text: str, start: int, names: str) -> tuple[str, str]:
    """Of a passage that begins inside a row: the row's first cell, and the names of the columns from there on."""
    line = text.rindex("\n", 0, start) + 1
    before = [text[low:high] for low, high in cells_of(text, line, start)]
    passed = len(before) if text[start] == "|" or text[line:start].rstrip().endswith("|") else max(len(before) - 1, 0)
    return " ".join(before[0].split()) if before else "", SEPARATOR.join(names.split(SEPARATOR)[passed:])


def _metadata(name: str, document: Document) -> dict[str, Scalar]:
    """What filters may ask for; what the file says of itself never hides our own keys."""
    return {
        **document.metadata,
        "title": document.title,
        "type": Path(name).suffix.removeprefix(".").lower(),
        "media_type": document.media_type,
    }
