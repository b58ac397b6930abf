"""Markdown: the source text itself, with its headings as sections and its fences and tables as blocks.

Unusual: nothing is rendered, so that a citation is exact in the file a person edits. Front matter (between `---` lines)
goes to the metadata; HTML comments stay in the text. Rules of headings and fences: CommonMark 0.31 §4.2, 4.3, 4.5.
"""

from __future__ import annotations

import re
from pathlib import Path

from octavo.retrieve.documents.cells import cells_of, column_names
from octavo.retrieve.documents.document import (
    Document,
    Limits,
    Span,
    canonical,
    close_sections,
    file_title,
    in_order,
)
from octavo.retrieve.documents.encoding import decode
from octavo.retrieve.documents.formats.plain import said_of

_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_TABLE_RULE = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_NOT_A_PARAGRAPH = re.compile(r" {0,3}(>|[-+*][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t])|    |\t|[ \t]*$")
_FIELD = re.compile(r"([A-Za-z][\w-]*)[ \t]*:[ \t]*(.+)")
_DECORATION = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*`]+|(?<!\w)_+|_+(?!\w)")

LONGEST_LABEL = 500  # characters


def read(path: Path, limits: Limits) -> Document:
    """The document of a Markdown file. Raises FormatError for bytes that are no text."""
    decoded = decode(path.read_bytes())
    text, metadata = split_front_matter(canonical(decoded.text))
    spans = find_spans(text)
    headings = [span for span in spans if span.kind == "heading"]
    title = metadata.get("title") or next((span.label for span in headings if span.level == 1), file_title(path))
    return Document(
        path=str(path),
        title=title,
        text=text,
        media_type="text/markdown",
        spans=spans,
        metadata={**metadata, **said_of(decoded)},
        warnings=decoded.warnings,
    )


def split_front_matter(text: str) -> tuple[str, dict[str, str]]:
    """The text after the front matter, and the matter's plain `key: value` lines."""
    if not text.startswith("---\n"):
        return text, {}
    end = re.search(r"^(---|\.\.\.)[ \t]*$\n?", text[4:], re.M)
    if end is None:
        return text, {}
    fields = [_FIELD.fullmatch(line.strip()) for line in text[4 : 4 + end.start()].split("\n")]
    matter = {found[1].lower(): found[2].strip().strip("\"'") for found in fields if found}
    return (text[4 + end.end() :], matter) if matter else (text, {})


def find_spans(text: str) -> tuple[Span, ...]:
    """Sections by heading, code fences and tables of Markdown source, in order of start."""
    spans: list[Span] = []
    fence: tuple[str, int] | None = None  # the marker that closes the open fence, and where it began
    table = previous = None  # where the open table began; the line before this one
    offset = 0
    for bare in text.split("\n"):
        end = min(offset + len(bare) + 1, len(text))
        if fence is not None:
            if re.fullmatch(rf" {{0,3}}{re.escape(fence[0][0])}{{{len(fence[0])},}}[ \t]*", bare):
                spans.append(Span("block", fence[1], offset + len(bare)))
                fence = None
        elif opening := _FENCE.match(bare):
            fence = (opening[1], offset)
        elif heading := _ATX.match(bare):
            spans.append(Span("heading", offset, end, plain_words(bare[heading.end() :]), len(heading[1])))
        elif previous is not None and _is_title(previous[0]) and (rule := _SETEXT.match(bare)):
            spans.append(Span("heading", previous[1], end, plain_words(previous[0]), 1 if rule[1][0] == "=" else 2))
        elif table is None and previous is not None and "|" in previous[0] and _TABLE_RULE.match(bare):
            table = previous[1]
        if table is not None and ("|" not in bare or end == len(text)):
            spans.append(Span("table", table, end if "|" in bare else offset - 1, _names(text, table)))
            table = None
        previous, offset = (bare, offset), end
    if fence is not None:
        spans.append(Span("block", fence[1], len(text.rstrip("\n"))))
    return in_order(close_sections(in_start_order(spans), len(text)))


def _names(text: str, start: int) -> str:
    """The names of the columns of the table that begins here."""
    cells = cells_of(text, start, text.index("\n", start))
    return column_names(plain_words(text[low:high]) for low, high in cells)


def in_start_order(spans: list[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: span.start)


def plain_words(heading: str) -> str:
    """A heading's words without closing marks and those of emphasis, code and links; of a very long one the start."""
    bare = heading[:LONGEST_LABEL].rstrip()
    opened = bare.rstrip("#")
    bare = opened if not opened or opened[-1:].isspace() else bare
    return " ".join(_DECORATION.sub(lambda found: found[1] or "", bare).split())


def _is_title(line: str) -> bool:
    """Whether an underline would make this line a heading: a paragraph, of one line here."""
    return _NOT_A_PARAGRAPH.match(line) is None
