"""PPTX (ECMA-376 part 1, PresentationML): a slide is a page; titles are headings; tables, charts and notes are kept.

A picture gives its alternative text, a chart the numbers that it was drawn from. Slides come in the order shown, hidden
ones too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from octavo.retrieve.documents.archive import Archive
from octavo.retrieve.documents.cells import write_table
from octavo.retrieve.documents.document import Document, Limits, Writer, file_title
from octavo.retrieve.documents.formats.office import RELATION, child, main_part, properties, relations

_TITLES = ("title", "ctrTitle")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr")  # placeholders that say the same on every slide


def read(path: Path, limits: Limits) -> Document:
    """The document of a PPTX file. Raises FormatError for one that is broken, encrypted or a bomb."""
    writer = Writer()
    with Archive(path, limits) as archive:
        part = main_part(archive, "PPTX")
        parts = relations(archive, part)
        listed = archive.xml(part).find("sldIdLst")
        ids = [slide.get(f"{RELATION}id", "") for slide in (listed if listed is not None else ())]
        for number, target in enumerate((parts[slide_id][1] for slide_id in ids if slide_id in parts), 1):
            start = writer.position
            _slide(archive, target, writer)
            writer.mark("page", start, str(number))
        said = properties(archive)
    text, spans = writer.finish()
    first = next((span.label for span in spans if span.kind == "heading"), file_title(path))
    return Document(
        path=str(path),
        title=said.get("title") or first,
        text=text,
        media_type="application/vnd.openxmlformats-officedocument.presentationml.presentation",
        spans=spans,
        metadata=said,
    )


def _slide(archive: Archive, part: str, writer: Writer) -> None:
    related = relations(archive, part)
    tree = child(archive.xml(part), "cSld", "spTree")
    shapes = list(_shapes(tree)) if tree is not None else []
    for shape in sorted(shapes, key=lambda shape: _placeholder(shape) not in _TITLES):  # titles first, then as drawn
        _shape(archive, shape, related, writer)
    for kind, target in related.values():
        notes = child(archive.xml(target), "cSld", "spTree") if kind == "notesSlide" else None
        bodies = [shape for shape in (_shapes(notes) if notes is not None else ()) if _placeholder(shape) == "body"]
        text = "\n".join(_paragraphs(body) for body in bodies).strip()
        writer.block(f"Notes: {text}" if text else "")


def _shapes(tree: Element) -> Iterator[Element]:
    """Shapes in the order drawn, those of groups too."""
    for shape in tree:
        if shape.tag in ("grpSp", "AlternateContent", "Choice"):
            yield from _shapes(shape)
        elif shape.tag in ("sp", "graphicFrame", "pic"):
            yield shape


def _shape(archive: Archive, shape: Element, related: dict[str, tuple[str, str]], writer: Writer) -> None:
    placeholder = _placeholder(shape)
    if placeholder in _FURNITURE:
        return
    if shape.tag == "pic":
        described = child(shape, "nvPicPr", "cNvPr")
        words = described.get("descr", "").strip() if described is not None else ""
        writer.block(f"[Picture: {words}]" if words else "")
    elif (table := child(shape, "graphic", "graphicData", "tbl")) is not None:
        look = child(table, "tblPr")
        rows = [[_paragraphs(cell) for cell in row.findall("tc")] for row in table.iter("tr")]
        write_table(writer, rows, named=look is not None and look.get("firstRow") in ("1", "true"))
    elif (chart := child(shape, "graphic", "graphicData", "chart")) is not None:
        _, target = related.get(chart.get(f"{RELATION}id", ""), ("", ""))
        root = archive.xml_or_none(target)
        if root is not None:
            writer.block(_chart(root))
    elif placeholder in _TITLES:
        writer.heading(_paragraphs(shape), 1)
    else:
        writer.block(_paragraphs(shape))


def _chart(root: Element) -> str:
    """The title and the cached numbers of a chart, a line a series."""
    title = next(root.iter("title"), None)
    lines = [_paragraphs(title)] if title is not None else []
    for series in root.iter("ser"):
        name = "".join(_cached(series.find("tx")))
        categories, values = _cached(series.find("cat")), _cached(series.find("val"))
        pairs = [f"{category} {value}" for category, value in zip(categories, values, strict=False)]
        lines.append(f"{name}: {', '.join(pairs or values)}")
    return "\n".join(line for line in lines if line.strip())


def _cached(element: Element | None) -> list[str]:
    return [value.text or "" for value in element.iter("v")] if element is not None else []


def _placeholder(shape: Element) -> str:
    found = child(shape, "nvSpPr", "nvPr", "ph")
    return found.get("type", "body") if found is not None else ""


def _paragraphs(element: Element) -> str:
    """The text of a shape or cell, a line a paragraph."""
    lines = []
    for paragraph in element.iter("p"):
        pieces = [
            (part.text or "") if part.tag == "t" else "\n" for part in paragraph.iter() if part.tag in ("t", "br")
        ]
        lines.append("".join(pieces).strip())
    return "\n".join(line for line in lines if line)
