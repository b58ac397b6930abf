"""Splitting by separators from coarse to fine, equal to LangChain's RecursiveCharacterTextSplitter.

Unusual: pieces are (start, end) ranges of the text from first to last, never strings that are searched for afterwards,
so an offset cannot be wrong where a passage repeats. A separator stays glued to the piece that it starts (or ends).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from octavo.errors import OctavoError

Range = tuple[int, int]
Length = Callable[[str], int]
SEPARATORS = ("\n\n", "\n", " ", "")


@dataclass(frozen=True)
class Recursive:
    """How to split.

    chunk_size, overlap: in units of `length` (characters by default); a piece of exactly chunk_size is split again.
    separators: coarse to fine; the empty one parts every character. regex: whether they are regular expressions.
    keep: the side of a piece on which its separator stays.
    """

    chunk_size: int
    overlap: int
    length: Length = len
    separators: Sequence[str] = SEPARATORS
    regex: bool = False
    keep: Literal["start", "end"] = "start"

    def __post_init__(self) -> None:
        check_sizes(self.chunk_size, self.overlap)
        if not self.separators:
            raise OctavoError("separators are empty; give at least one, such as a blank line", param="separators")

    def ranges(self, text: str) -> list[Range]:
        """The chunks of a text, without white space at their ends.

        A piece that is too long and that no finer separator parts is given as it is, white space too.
        """
        return list(self._split(text, (0, len(text)), tuple(self.separators)))

    def _split(self, text: str, whole: Range, separators: tuple[str, ...]) -> Iterator[Range]:
        expression, finer = self._choose(text[slice(*whole)], separators)
        small: list[Range] = []
        for piece in self._part(text, whole, expression):
            if self.length(text[slice(*piece)]) < self.chunk_size:
                small.append(piece)
                continue
            yield from merge(text, small, self.chunk_size, self.overlap, self.length)
            small = []
            if finer:
                yield from self._split(text, piece, finer)
            else:
                yield piece
        yield from merge(text, small, self.chunk_size, self.overlap, self.length)

    def _choose(self, text: str, separators: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The coarsest separator that occurs (else the last), as an expression, and those finer than it."""
        for index, separator in enumerate(separators):
            expression = separator if self.regex else re.escape(separator)
            if re.search(expression, text):
                return expression, separators[index + 1 :] if separator else ()
        return expression, ()

    def _part(self, text: str, whole: Range, expression: str) -> list[Range]:
        start, end = whole
        if not expression:
            return [(index, index + 1) for index in range(start, end)]
        found = re.finditer(expression, text[start:end])  # a slice: `^` and lookbehinds must not see outside
        cuts = [start + (match.start() if self.keep == "start" else match.end()) for match in found]
        edges = [start, *cuts, end]
        return [piece for piece in pairwise(edges) if piece[0] < piece[1]]


def merge(text: str, pieces: Sequence[Range], chunk_size: int, overlap: int, length: Length) -> Iterator[Range]:
    """Adjacent pieces joined into chunks of at most chunk_size, each beginning with up to `overlap` of the last.

    Sizes are summed over pieces, as LangChain does. Chunks are stripped of white space, empty ones left out.
    """
    current: deque[tuple[Range, int]] = deque()
    total = 0
    for piece in pieces:
        size = length(text[slice(*piece)])
        if current and total + size > chunk_size:
            yield from strip(text, current[0][0][0], current[-1][0][1])
            while total > overlap or (total + size > chunk_size and total > 0):
                total -= current.popleft()[1]
        current.append((piece, size))
        total += size
    if current:
        yield from strip(text, current[0][0][0], current[-1][0][1])


def strip(text: str, start: int, end: int) -> tuple[()] | tuple[Range]:
    """The range without the white space at its ends, or nothing where there is nothing else."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return ((start, end),) if start < end else ()


def check_sizes(chunk_size: int, overlap: int) -> None:
    """Refuse sizes that cannot be kept."""
    if chunk_size < 1:
        raise OctavoError(f"chunk size {chunk_size} is not positive", param="chunk_size")
    if not 0 <= overlap <= chunk_size:
        raise OctavoError(f"overlap {overlap} is not from 0 to the chunk size, {chunk_size}", param="overlap")
