"""The `Store` seam and its nouns: documents go in whole, passages of them are found by words or by vector.

A store keeps a document, its passages, their words and their vectors in one transaction, so that no search ever sees a
part of them. Implementations: SQLite (`sqlite.py`, the default) and PostgreSQL with pgvector (`postgres.py`); all pass
one contract suite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError

Scalar = str | int | float | bool
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """A document as it is stored.

    name: what it is called, unique in a store, such as its path in the folder. text: its canonical text, which every
    span counts in. fingerprint: of all that its passages and vectors were made from; the same fingerprint, the same
    passages. metadata: what filters may ask for.
    """

    name: str
    text: str
    fingerprint: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Of the canonical text as UTF-8: with it a citation says which version it counts in."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


@dataclass(frozen=True)
class Listing:
    """What a store says about a document without its text."""

    fingerprint: str
    sha256: str
    passages: int
    metadata: Mapping[str, Scalar]


@dataclass(frozen=True)
class Place:
    """Where a passage lies. start, end: characters of the document's text. page: from 1, where there are pages.
    line: of its beginning, from 1.

    context: what the passage stands under and does not say itself: title and headings on one line, the names of a
    table's columns (`documents/cells.py`) on one more for each table. It is searched and read with the passage.
    """

    start: int
    end: int
    page: int | None = None
    line: int | None = None
    context: str = ""


@dataclass(frozen=True)
class Passage:
    """A passage that was found: its document, where it lies there, and its text, `document.text[start:end]`."""

    document: str
    sha256: str
    place: Place
    text: str

    @property
    def id(self) -> str:
        """Unique in a store, the same whenever the same text is indexed again."""
        return f"{self.document}#{self.place.start}-{self.place.end}"


@dataclass(frozen=True)
class Hit:
    """A passage with how well it fits; more is better, and only scores of one search compare."""

    passage: Passage
    score: float


@dataclass(frozen=True)
class VectorSpace:
    """Which encoder made a store's vectors, and of how many dimensions: vectors of two encoders never mix."""

    encoder: str
    dimensions: int


class Store(Protocol):
    """Where documents are kept and searched. Thread-safe. space: None where the store keeps no vectors."""

    space: VectorSpace | None

    def put(self, source: Source, places: Sequence[Place], vectors: Vectors | None) -> None:
        """Store a document with its passages, in place of one of the same name. On return it survives a killed process.

        vectors: (len(places), dimensions), None where the store keeps none.
        """
        ...

    def delete(self, names: Collection[str]) -> None:
        """Delete documents with their passages, words and vectors; names that are not there are no error."""
        ...

    def listing(self) -> dict[str, Listing]:
        """Every document by its name."""
        ...

    def text(self, name: str) -> str:
        """A document's canonical text. Raises OctavoError for one that is not there."""
        ...

    def search_words(self, query: str, limit: int, within: Collection[str] | None = None) -> list[Hit]:
        """The passages that fit a query's words best, by BM25. within: only in these documents.

        The query is plain text, as a person types it: no sign in it is an operator.
        """
        ...

    def search_vector(
        self, vector: Vectors, limit: int, within: Collection[str] | None = None, *, exact: bool = False
    ) -> list[Hit]:
        """The passages whose vectors have the greatest inner product with `vector` (dimensions,).

        exact: compare it with every one, where the store would otherwise look into a part of them.
        """
        ...

    def arrange(self, *, show: bool = False) -> None:
        """Make searches of many vectors fast, where it is due; what was added since is found all the same.

        show: progress on stderr.
        """
        ...

    def remember(self, key: str, value: str) -> None:
        """Keep a note for whoever fills the store, such as how documents are cut."""
        ...

    def recall(self, key: str) -> str | None:
        """A note that was kept; None for one that was not."""
        ...

    def compact(self) -> None:
        """Give back the room of what was deleted; nothing of it is left in the store's files."""
        ...

    def close(self) -> None:
        """Close the store. Idempotent."""
        ...


def check_document(source: Source, places: Sequence[Place], vectors: Vectors | None, space: VectorSpace | None) -> None:
    """Raise OctavoError for spans outside the text and for vectors that the store cannot take."""
    size = len(source.text)
    for place in places:
        if not 0 <= place.start < place.end <= size:
            raise OctavoError(f"a passage of {source.name} is {place.start} to {place.end} of its {size} characters")
    given = None if vectors is None else vectors.shape
    taken = None if space is None else (len(places), space.dimensions)
    if given != taken:
        raise OctavoError(f"the vectors of {source.name} have the shape {given}; this store takes {taken}")


def check_space(found: VectorSpace | None, wanted: VectorSpace | None, place: str) -> None:
    """Raise OctavoError where a store was made with another encoder than the one at hand."""
    if wanted is not None and found != wanted:
        made = f"with {found.encoder} ({found.dimensions} dimensions)" if found else "for word search alone"
        raise OctavoError(
            f"{place} was made {made}, not with {wanted.encoder} ({wanted.dimensions} dimensions); "
            "index anew with --rebuild, or name the encoder that made it"
        )
