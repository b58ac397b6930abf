"""What a reader is given of a passage: its headings first, and each cell of a table behind its column's name.

A row of a table says little alone; "Licence: Apache 2.0" says it. Only the passage's own characters can be an answer,
and each knows its place there, so that what is marked is cited as it stands in the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from octavo.retrieve.documents.cells import SEPARATOR, cells_of
from octavo.retrieve.stores.store import Passage

_RULE = re.compile(r"[ \t|:-]+")
_LINK = re.compile(r"!?\[([^\]]*)\]\((?:[^()\s]|\([^()\s]*\))*\)|<!--.*?-->")
Range = tuple[int, int]


@dataclass
class View:
    """text: what is read. places: the passage's character that each of its characters is. unsaid: ranges of the text
    that are no part of the passage, in order, so no answer may lie in them; their characters have the next one's place.
    """

    text: str = ""
    places: list[int] = field(default_factory=list)
    unsaid: list[Range] = field(default_factory=list)

    def range(self, start: int, end: int) -> Range:
        """The passage's characters that characters start to end of the text are."""
        return (self.places[start], self.places[end - 1] + 1) if end > start else (0, 0)

    def add(self, passage: str, start: int, end: int) -> None:
        """Characters start to end of the passage."""
        self.text += passage[start:end]
        self.places += range(start, end)

    def say(self, words: str, place: int) -> None:
        """Words that stand before character `place` of the passage and are no part of it."""
        if words:
            self.unsaid.append((len(self.text), len(self.text) + len(words)))
            self.text += words
            self.places += [place] * len(words)


def view(passage: Passage) -> View:
    """A passage as it is read. The names of columns are those lines of its context that follow the first."""
    made, text = View(), passage.text
    path, *tables = passage.place.context.split("\n")
    made.say(f"{path}\n\n" if path else "", 0)
    if not tables:
        made.add(text, 0, len(text))
        return made
    heads = [head.split(SEPARATOR) for head in tables]
    names = heads[0]
    for start, end in _lines(text):
        cells = list(cells_of(text, start, end))
        told = [text[low:high] for low, high in cells]
        if len(cells) < 2:
            made.add(text, start, end)
        elif (head := [" ".join(cell.split()) for cell in told]) in heads:
            names = head
        elif not _RULE.fullmatch(text[start:end].rstrip("\n")):
            _row(made, text, cells, names)
    return made


def _row(made: View, text: str, cells: Sequence[Range], names: Sequence[str]) -> None:
    """A row as `name: cell` pairs; what a link leads to is left out."""
    filled = [(at, low, high) for at, (low, high) in enumerate(cells) if high > low]
    for count, (at, low, high) in enumerate(filled):
        name = names[at] if at < len(names) else ""
        made.say(("; " if count else "") + (f"{name}: " if name else ""), low)
        position = low
        for link in _LINK.finditer(text, low, high):
            made.add(text, position, link.start())
            if link[1]:
                made.add(text, *link.span(1))
            position = link.end()
        made.add(text, position, high)
    if filled:
        made.say(".\n\n", filled[-1][2])


def _lines(text: str) -> Iterator[Range]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, start + len(line)
        start += len(line)
