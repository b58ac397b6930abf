"""Tables of records (CSV, TSV, JSONL): a row becomes a block of `name: value` lines, so that it makes sense alone."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octavo.errors import FormatError
from octavo.retrieve.documents.document import Document, Limits, Writer, canonical, file_title
from octavo.retrieve.documents.encoding import decode
from octavo.retrieve.documents.formats.plain import said_of

DELIMITERS = ",;\t|"
MAX_NAMED_LINES = 5


def read(path: Path, limits: Limits) -> Document:
    """The document of a file of rows. Raises FormatError where no row can be read."""
    decoded = decode(path.read_bytes())
    text = canonical(decoded.text)
    writer, broken = Writer(), list[int]()
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    rows = _json_rows(text, broken) if is_json else _csv_rows(text, path.suffix.lower())
    for number, row in rows:
        start, end = writer.block("\n".join(f"{name}: {value}" if name else value for name, value in row if value))
        if end > start:
            writer.mark("row", start, str(number))
    if broken and not writer.position:
        raise FormatError(f"line {broken[0]} is not JSON, and no other line is; is it a JSONL file?")
    warnings = [*decoded.warnings, *([_broken_lines(broken)] if broken else [])]
    text, spans = writer.finish()
    kind = "application/jsonl" if is_json else "text/csv"
    return Document(str(path), file_title(path), text, kind, spans, said_of(decoded), tuple(warnings))


Row = list[tuple[str, str]]


def _csv_rows(text: str, suffix: str) -> Iterator[tuple[int, Row]]:
    """(number, cells with the names of the first row) of each row after the first; a cell past the names has none."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # the file's size is the limit that counts
    delimiter = "\t" if suffix == ".tsv" else _delimiter(text)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    names = [name.strip() for name in next(rows, [])]
    number = 0
    for number, cells in enumerate(rows, 1):
        padded = names + [""] * (len(cells) - len(names))
        yield number, [(name, cell.strip()) for name, cell in zip(padded, cells, strict=False)]
    if number == 0:  # a single row is not the names of nothing
        yield 1, [("", name) for name in names]


def _delimiter(text: str) -> str:
    """The delimiter that the first line holds most of, outside quotes; a comma where there is none."""
    first = "".join(text.split("\n", 1)[0].split('"')[::2])
    return max(DELIMITERS, key=first.count)


def _json_rows(text: str, broken: list[int]) -> Iterator[tuple[int, Row]]:
    """(line, flattened fields) of each JSON line; the numbers of lines that are no JSON go to `broken`."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            broken.append(number)
            continue
        yield number, list(_fields("", value))


def _fields(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A JSON value as (dotted name, text) pairs; a list of plain values is one pair."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _fields(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for position, inner in enumerate(value):
            yield from _fields(f"{name}.{position}" if name else str(position), inner)
    elif isinstance(value, list):
        yield name, ", ".join(_plain(item) for item in value)
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _broken_lines(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:MAX_NAMED_LINES])) + (", …" if len(numbers) > MAX_NAMED_LINES else "")
    return f"{len(numbers)} of its lines {'is' if len(numbers) == 1 else 'are'} not JSON and left out (line {listed})"
