"""The Open-LLMs table (Yan et al., github.com/eugeneyan/open-llms, Apache-2.0, as of 2025-02-12), read and searched.

Unusual: the page is packaged as its authors wrote it, and each row keeps its cells word for word beside what was read
out of them, so nothing is lost where a cell says more than a number: "84k (ALiBi)", "0.76, 1.3, 6.3".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from octavo.errors import OctavoError, UnknownNameError, nearest

SOURCE: Final = "https://github.com/eugeneyan/open-llms"
PAGE: Final = Path(__file__).with_name("open-llms.md")
MODEL_COLUMNS: Final = (
    "Language Model", "Release Date", "Checkpoints", "Paper/Blog", "Params (B)", "Context Length", "Licence", "Try it"
)  # fmt: skip
CUSTOM: Final = "custom"
LICENCES: Final = {
    "apache 2.0": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc by-sa-3.0": "CC-BY-SA-3.0",
    "cc by-sa-4.0": "CC-BY-SA-4.0",
    "openrail-m v1": "OpenRAIL-M",
}
"""The table's words -> SPDX's identifier, but OpenRAIL-M, which has none. Any other words are terms of their own."""
RESTRICTED: Final = (CUSTOM, "OpenRAIL-M")


@dataclass(frozen=True)
class Table:
    """A table of the page: rows of cells as they are written, each as long as the head."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class OpenModel:
    """A row of the table of models or of models for code.

    released: 2023-06 or 2023-06-18. params_*: whole numbers of parameters. context: of the longest variant, in tokens;
    None: without a bound, as the table says. licences: SPDX identifiers, `OpenRAIL-M`, or `custom`. restricted: use is
    bound to conditions beyond attribution or sharing alike. links: every address of the row. cells: word for word.
    """

    name: str
    section: str
    released: str
    params_min: int
    params_max: int
    context: int | None
    licences: tuple[str, ...]
    restricted: bool
    links: tuple[str, ...]
    cells: tuple[str, ...]


@cache
def tables() -> tuple[Table, ...]:
    """All tables of the page, those of data sets too."""
    found: list[Table] = []
    title, block = "", []
    for line in [*PAGE.read_text(encoding="utf-8").splitlines(), ""]:
        if line.lstrip().startswith("#"):
            title = line.strip(" #")
        if line.startswith("|"):
            block.append(split_row(line))
        elif block:
            head, _, *rows = block
            found.append(Table(title, head, tuple((*row, *[""] * (len(head) - len(row))) for row in rows)))
            block = []
    return tuple(found)


@cache
def open_models() -> tuple[OpenModel, ...]:
    """Every model of the page, in its order."""
    return tuple(_read(table, row) for table in tables() if table.head == MODEL_COLUMNS for row in table.rows)


def search(
    words: str = "",
    *,
    licence: str | None = None,
    min_params: int | None = None,
    max_params: int | None = None,
    min_context: int | None = None,
) -> list[OpenModel]:
    """Models whose cells hold all words, under a licence, with a variant of that size and that context.

    Raises UnknownNameError, with the nearest known one, for a licence that the table does not have.
    """
    wanted = None if licence is None else _known_licence(licence)
    return [
        model
        for model in open_models()
        if all(word in " ".join(model.cells).casefold() for word in words.casefold().split())
        and (wanted is None or wanted in model.licences)
        and (min_params is None or model.params_max >= min_params)
        and (max_params is None or model.params_min <= max_params)
        and (min_context is None or model.context is None or model.context >= min_context)
    ]


def known_licences() -> list[str]:
    """Every licence of the table, most common first."""
    names = [name for model in open_models() for name in model.licences]
    return sorted(set(names), key=lambda name: (-names.count(name), name))


def read_count(text: str, *, thousand: int = 1000) -> int:
    """A number such as 512, 8k or 1.5b. thousand: 1024 where powers of two are counted, as in contexts.

    Raises OctavoError for anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", text.strip().casefold())
    if match is None:
        raise OctavoError(f"{text!r} is not a number such as 512, 8k, 350m or 7b")
    thousands: int = thousand ** " kmbt".index(match[2] or " ")
    return round(float(match[1]) * thousands)


def plain(cell: str) -> str:
    """A cell without its addresses and comments."""
    return re.sub(r"\[([^\[\]]*)\]\((?:\[[^\]]*\]\([^)]*\)|[^)]*)\)", r"\1", re.sub(r"<!--.*?-->", "", cell)).strip()


def split_row(line: str) -> tuple[str, ...]:
    """The cells of a line, which need not end with a bar."""
    cells = [cell.strip() for cell in line.strip().removeprefix("|").split("|")]
    return tuple(cells if cells[-1] else cells[:-1] if line.rstrip().endswith("|") else cells)


def _read(table: Table, cells: tuple[str, ...]) -> OpenModel:
    name, released, _, _, params, context, licence, _ = cells
    sizes = [round(float(number) * 1e9) for number in re.findall(r"\d+(?:\.\d+)?", params)]
    licences = _licences(plain(licence))
    return OpenModel(
        name=plain(name),
        section=table.title,
        released=_date(released),
        params_min=min(sizes),
        params_max=max(sizes),
        context=_context(plain(context)),
        licences=licences,
        restricted=any(name in RESTRICTED for name in licences),
        links=tuple(re.findall(r"https?://[^\s)\]]+", " ".join(cells))),
        cells=cells,
    )


def _date(cell: str) -> str:
    """2023/06<!--18--> -> 2023-06-18; the day is a comment that the page does not show."""
    year, month, day = re.fullmatch(r"(\d{4})/(\d\d)(?:<!--(\d\d)-->)?", cell.strip()).groups()  # type: ignore[union-attr]
    return "-".join(part for part in (year, month, day) if part)


def _context(text: str) -> int | None:
    if re.match(r"infinity|unlimited", text):
        return None
    return max(read_count(number, thousand=1024) for number in re.findall(r"\d+[kKmM]?", text))


def _licences(text: str) -> tuple[str, ...]:
    parts = [LICENCES.get(part.strip().casefold()) for part in text.split(",")]
    return tuple(part for part in parts if part) if all(parts) else (CUSTOM,)


def _known_licence(licence: str) -> str:
    known: Iterable[str] = known_licences()
    for name in known:
        if name.casefold() == LICENCES.get(licence.casefold(), licence).casefold():
            return name
    lowered = [name.casefold() for name in known]
    hint = nearest(licence.casefold(), lowered)
    raise UnknownNameError(
        f"no model of the table is under {licence!r}{hint or '.'} It has {', '.join(lowered)}", param="licence"
    )
