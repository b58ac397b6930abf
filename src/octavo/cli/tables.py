"""Plain tables for a terminal, and sizes as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import typer

NUMBER = re.compile(r"[\d.,]+ ?\w*")


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell; a column of numbers stands on the right."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numbers = [len(column) > 1 and all(NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]
    for row in (head, *rows):
        cells = zip(row, widths, numbers, strict=True)
        typer.echo(
            "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()
        )


def gigabytes(count: int) -> str:
    """Bytes in decimal megabytes or gigabytes."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def short_number(value: float) -> str:
    """Three digits and a thousand's letter: 135M, 7.24B."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"
