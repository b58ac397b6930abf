"""Tables as lines of text: cells between `|`, a row a line, as Markdown writes them and we do for other formats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from octavo.retrieve.documents.document import Writer

SEPARATOR = " | "
LONGEST_NAMES = 500
"""Characters of the names of a table's columns together that are kept."""
_BAR = re.compile(r"(?<!\\)\|")


def row_text(cells: Iterable[str]) -> str:
    """A table's row on one line, without the empty cells at its end."""
    return SEPARATOR.join(" ".join(cell.split()) for cell in cells).rstrip(" |")


def write_table(writer: Writer, rows: Sequence[Sequence[str]], *, named: bool) -> None:
    """Append a table, its empty rows left out. named: whether its first row names the columns."""
    start, end = writer.block("\n".join(line for line in map(row_text, rows) if line.strip()))
    if end > start:
        writer.mark("table", start, column_names(rows[0]) if named and len(rows) > 1 else "")


def column_names(cells: Iterable[str]) -> str:
    """The names of columns, as a table's label has them; empty where they are one or none, or too long to be names."""
    names = row_text(cells)
    return names if SEPARATOR in names and len(names) <= LONGEST_NAMES else ""


def cells_of(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the cells of the line from start to end are, each without the white space around it."""
    edges = [start - 1, *(bar.start() for bar in _BAR.finditer(text, start, end)), end]
    cells = [(low + 1, high) for low, high in pairwise(edges)]
    if text.startswith("|", start):  # Markdown's own frame
        cells = cells[1:-1] if len(cells) > 2 and not text[slice(*cells[-1])].strip() else cells[1:]
    for low, high in cells:
        bare = text[low:high]
        first = low + len(bare) - len(bare.lstrip())
        yield first, first + len(bare.strip())
