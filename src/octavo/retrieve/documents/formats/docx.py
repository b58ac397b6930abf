"""DOCX (ECMA-376 part 1, WordprocessingML): headings, lists, tables row by row, footnotes, text boxes.

Unusual: tracked deletions and moves are left out and insertions kept, so that what is indexed is what a reader of the
accepted document sees. Headers and footers are left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from octavo.retrieve.documents.archive import Archive
from octavo.retrieve.documents.cells import write_table
from octavo.retrieve.documents.document import Document, Limits, Writer, file_title
from octavo.retrieve.documents.formats.office import child, main_part, properties, relations

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_VAL = f"{_W}val"
_LEFT_OUT = frozenset(
    ("del", "moveFrom", "instrText", "Fallback", "rt", "pPr", "rPr", "sectPr", "tblPr", "txbxContent")
)
_LITERAL = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_NOTES = ("footnote", "endnote")
_PARTS = ("styles", "numbering", "footnotes", "endnotes")


def read(path: Path, limits: Limits) -> Document:
    """The document of a DOCX file. Raises FormatError for one that is broken, encrypted or a bomb."""
    with Archive(path, limits) as archive:
        part = main_part(archive, "DOCX")
        related = dict(relations(archive, part).values())
        parts = {kind: archive.xml_or_none(related[kind]) for kind in _PARTS if kind in related}
        story = _Story(_Styles(parts.get("styles")), _Numbering(parts.get("numbering")))
        body = archive.xml(part).find("body")
        story.blocks(body if body is not None else Element("body"))
        for kind in _NOTES:
            story.notes(kind, parts.get(f"{kind}s"))
        said = properties(archive)
    text, spans = story.writer.finish()
    first = next((span.label for span in spans if span.kind == "heading"), file_title(path))
    return Document(
        path=str(path),
        title=said.get("title") or first,
        text=text,
        media_type="application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        spans=spans,
        metadata=said,
    )


class _Styles:
    """Heading level and list of each paragraph style, inherited along `basedOn`."""

    def __init__(self, root: Element | None) -> None:
        styles = root.findall("style") if root is not None else []
        self._styles = {style.get(f"{_W}styleId", ""): style for style in styles}

    def level(self, style_id: str) -> int | None:
        """1 for a title or top heading, and so on; None for body text."""
        for style in self._line(style_id):
            name = style.find("name")
            label = (name.get(_VAL, "") if name is not None else "").lower()
            if found := re.fullmatch(r"heading (\d)", label):
                return int(found[1])
            if label == "title":
                return 1
            if (outline := child(style, "pPr", "outlineLvl")) is not None:
                return _level_of(outline)
        return None

    def numbering(self, style_id: str) -> Element | None:
        return next((n for s in self._line(style_id) if (n := child(s, "pPr", "numPr")) is not None), None)

    def _line(self, style_id: str) -> Iterator[Element]:
        seen: set[str] = set()
        while style_id in self._styles and style_id not in seen:
            seen.add(style_id)
            style = self._styles[style_id]
            yield style
            above = style.find("basedOn")
            style_id = above.get(_VAL, "") if above is not None else ""


class _Numbering:
    """The mark that a list item starts with: `- `, or the number it has come to."""

    def __init__(self, root: Element | None) -> None:
        self._formats: dict[tuple[str, str], str] = {}
        self._counts: defaultdict[tuple[str, int], int] = defaultdict(int)
        if root is None:
            return
        kinds = {
            (abstract.get(f"{_W}abstractNumId"), level.get(f"{_W}ilvl", "0")): _value(level.find("numFmt"))
            for abstract in root.findall("abstractNum")
            for level in abstract.findall("lvl")
        }
        for number in root.findall("num"):
            abstract_id = _value(number.find("abstractNumId"))
            for (owner, level_id), kind in kinds.items():
                if owner == abstract_id:
                    self._formats[number.get(f"{_W}numId", ""), level_id] = kind

    def mark(self, properties: Element) -> str:
        number, level_id = _value(properties.find("numId")), _value(properties.find("ilvl")) or "0"
        if number in ("", "0"):  # a level without a list, or a style's list switched off in this paragraph
            return ""
        level = int(level_id) if level_id.isdecimal() else 0
        for deeper in [key for key in self._counts if key[0] == number and key[1] > level]:
            del self._counts[deeper]
        self._counts[number, level] += 1
        kind = self._formats.get((number, level_id), "bullet")
        return "  " * level + ("- " if kind in ("bullet", "none") else f"{self._counts[number, level]}. ")


@dataclass
class _Story:
    """A text under way: paragraphs and tables, in order, into a `Writer`."""

    styles: _Styles
    numbering: _Numbering
    writer: Writer = field(default_factory=Writer)
    in_list: bool = False

    def blocks(self, parent: Element) -> None:
        for element in parent:
            if element.tag == "p":
                self.paragraph(element)
            elif element.tag == "tbl":
                rows = list(_rows(element))
                write_table(self.writer, [list(_cells(row)) for row in rows], named=_has_names(element, rows))
                self.in_list = False
            elif element.tag in ("sdt", "sdtContent", "customXml", "ins", "moveTo"):
                self.blocks(element)

    def paragraph(self, element: Element) -> None:
        style_id = _value(child(element, "pPr", "pStyle"))
        outline = child(element, "pPr", "outlineLvl")
        level = _level_of(outline) if outline is not None else self.styles.level(style_id)
        text = _text(element).strip()
        numbered = child(element, "pPr", "numPr")
        if numbered is None:
            numbered = self.styles.numbering(style_id)
        if level is not None and text:
            self.writer.heading(text, level)
            self.in_list = False
        elif text:
            mark = self.numbering.mark(numbered) if numbered is not None else ""
            self.writer.block(mark + text, gap="\n" if mark and self.in_list else "\n\n")
            self.in_list = bool(mark)
        for box in _boxes(element):
            self.blocks(box)

    def notes(self, kind: str, root: Element | None) -> None:
        """Foot- or endnotes, after the text; `[^1]` in it points to `[^1]:` here."""
        for note in root.findall(kind) if root is not None else ():
            if note.get(f"{_W}type", "normal") == "normal":
                text = " ".join(_text(paragraph).strip() for paragraph in note.iter("p")).strip()
                self.writer.block(f"{_note_mark(kind, note)}: {text}")


def _text(element: Element) -> str:
    """The words of a paragraph, run by run, as they stand after all tracked changes."""
    pieces: list[str] = []
    for part in element:
        if part.tag in _LEFT_OUT:
            continue
        if part.tag == "t":
            pieces.append(part.text or "")
        elif part.tag in _LITERAL:
            pieces.append(_LITERAL[part.tag])
        elif part.tag in ("footnoteReference", "endnoteReference"):
            pieces.append(_note_mark(part.tag.removesuffix("Reference"), part))
        else:
            pieces.append(_text(part))
    return "".join(pieces)


def _boxes(element: Element) -> Iterator[Element]:
    """Text boxes anchored in a paragraph, once each: the old form that Word adds for old readers is left out."""
    for part in element:
        if part.tag == "txbxContent":
            yield part
        elif part.tag not in ("Fallback", "del", "moveFrom"):
            yield from _boxes(part)


def _rows(table: Element) -> Iterator[Element]:
    for row in table:
        if row.tag == "tr" and child(row, "trPr", "del") is None:
            yield row
        elif row.tag in ("sdt", "sdtContent", "ins"):
            yield from _rows(row)


def _has_names(table: Element, rows: list[Element]) -> bool:
    """Whether the first row names the columns: it repeats on every page, or the table's look sets it apart."""
    look = child(table, "tblPr", "tblLook")
    if rows and child(rows[0], "trPr", "tblHeader") is not None:
        return True
    return look is not None and look.get(f"{_W}firstRow", "") in ("1", "true", "on")


def _cells(row: Element) -> Iterator[str]:
    for cell in row:
        if cell.tag == "tc":
            yield " ".join(_text(paragraph) for paragraph in cell.iter("p"))
        elif cell.tag in ("sdt", "sdtContent"):
            yield from _cells(cell)


def _note_mark(kind: str, element: Element) -> str:
    return f"[^{'' if kind == 'footnote' else 'e'}{element.get(f'{_W}id', '')}]"


def _level_of(outline: Element) -> int | None:
    """An outline level counts from 0; 9 is body text."""
    value = _value(outline)
    return int(value) + 1 if value.isdecimal() and int(value) < 9 else None


def _value(element: Element | None) -> str:
    return element.get(_VAL, "") if element is not None else ""
