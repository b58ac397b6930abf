"""Splitting along a document's own parts: sections by heading, code by function and class.

A part that fits is one chunk. One that does not is cut at the parts inside it, and what has none at its blank lines,
never within a code fence or table that fits. Small neighbours of one size class are packed together for code, where a
three-line function says little alone; sections stay apart, except a heading with nothing under it, which goes with the
first section below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from octavo.retrieve.chunking.recursive import Range, Recursive, merge, strip

_BLANK = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)*")


@dataclass(frozen=True)
class Sections:
    """How to split.

    parts: ranges of sections or symbols, outer before inner. blocks: ranges not to cut. pack: join small neighbours.
    fine: sizes, and how a paragraph that is too long is cut.
    """

    parts: Sequence[Range]
    blocks: Sequence[Range]
    fine: Recursive
    pack: bool

    def ranges(self, text: str) -> list[Range]:
        """The chunks of a text, without white space at their ends."""
        pieces = list(self._cut(text, (0, len(text)), self.parts))
        if self.pack:
            pieces = list(self._packed(text, pieces))
        return [found for start, end in pieces for found in strip(text, start, end)]

    def _cut(self, text: str, whole: Range, parts: Sequence[Range]) -> Iterator[Range]:
        if self._fits(text, whole):
            yield whole
            return
        inner = [part for part in parts if whole[0] <= part[0] and part[1] <= whole[1] and part != whole]
        outermost = dict.fromkeys(_outermost(inner))
        if not outermost:
            yield from self._paragraphs(text, whole)
            return
        for piece in self._with_heads(text, _covering(whole, outermost)):
            if piece in outermost or self._fits(text, piece):
                yield from self._cut(text, piece, inner)
            else:
                yield from self._paragraphs(text, piece)

    def _with_heads(self, text: str, pieces: list[Range]) -> Iterator[Range]:
        """Pieces, one of a single line joined to the next where both fit together."""
        held: Range | None = None
        for piece in pieces:
            if held is not None and self._fits(text, (held[0], piece[1])):
                piece, held = (held[0], piece[1]), None
            if held is not None:
                yield held
            held = None
            if "\n" not in text[slice(*piece)].strip():
                held = piece
            else:
                yield piece
        if held is not None:
            yield held

    def _paragraphs(self, text: str, whole: Range) -> Iterator[Range]:
        start, end = whole
        blocks = [block for block in self.blocks if start <= block[0] and block[1] <= end and self._fits(text, block)]
        cuts = {start, end, *(edge for block in blocks for edge in block)}
        blanks = (found.end() for found in _BLANK.finditer(text, start, end))
        cuts.update(cut for cut in blanks if not any(low < cut < high for low, high in blocks))
        small: list[Range] = []
        for piece in pairwise(sorted(cuts)):
            if self._fits(text, piece):
                small.append(piece)
                continue
            yield from self._merged(text, small)
            small = []
            yield from ((piece[0] + low, piece[0] + high) for low, high in self.fine.ranges(text[slice(*piece)]))
        yield from self._merged(text, small)

    def _merged(self, text: str, pieces: Sequence[Range]) -> Iterator[Range]:
        return merge(text, pieces, self.fine.chunk_size, self.fine.overlap, self.fine.length)

    def _packed(self, text: str, pieces: Sequence[Range]) -> Iterator[Range]:
        held: Range | None = None
        for piece in pieces:
            if held is not None and self._fits(text, (held[0], piece[1])):
                held = (held[0], piece[1])
                continue
            if held is not None:
                yield held
            held = piece
        if held is not None:
            yield held

    def _fits(self, text: str, found: Range) -> bool:
        return self.fine.length(text[slice(*found)].strip()) <= self.fine.chunk_size


def _outermost(parts: Sequence[Range]) -> Iterator[Range]:
    """Parts that lie in no other of these; an overlapping one is left out."""
    end = -1
    for part in sorted(set(parts), key=lambda part: (part[0], -part[1])):
        if part[0] >= end:
            yield part
            end = part[1]


def _covering(whole: Range, parts: Iterable[Range]) -> list[Range]:
    """The parts and what lies between them, in order, together the whole."""
    edges = sorted({*whole, *(edge for part in parts for edge in part)})
    return list(pairwise(edges))
