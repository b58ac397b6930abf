"""EPUB (W3C EPUB 3.3; 2 as well): the chapters of the spine in reading order, their headings and tables kept."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from octavo.errors import FormatError
from octavo.retrieve.documents.archive import Archive
from octavo.retrieve.documents.cells import write_table
from octavo.retrieve.documents.document import Document, Limits, Writer, file_title
from octavo.retrieve.documents.formats.office import child

_LEFT_OUT = ("script", "style", "head", "nav", "svg", "rt", "rp")
_BLOCKS = frozenset(
    ("address", "article", "aside", "blockquote", "body", "dd", "div", "dl", "dt", "figcaption", "figure", "footer",
     "header", "hr", "li", "main", "ol", "p", "pre", "section", "table", "ul")
)  # fmt: skip
_FONT_SCRAMBLING = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_SPACES = re.compile(r"\s+")


def read(path: Path, limits: Limits) -> Document:
    """The document of an EPUB file. Raises FormatError for one that is broken, under DRM or a bomb."""
    writer, warnings = Writer(), list[str]()
    with Archive(path, limits) as archive:
        _refuse_encrypted(archive)
        container = archive.xml("META-INF/container.xml")
        root_file = next(container.iter("rootfile"), None)
        if root_file is None:
            raise FormatError("it is no EPUB file: its container names no package")
        package_name = root_file.get("full-path", "")
        package = archive.xml(package_name)
        for chapter in _spine(package, posixpath.dirname(package_name)):
            try:
                body = archive.xml(chapter).find("body")
            except FormatError as error:  # a chapter that is not well-formed costs itself
                warnings.append(str(error).replace("its part", "left out:", 1))
                continue
            if body is not None:
                Flow(writer).element(body)
    text, spans = writer.finish()
    metadata = _metadata(package)
    return Document(
        path=str(path),
        title=metadata.get("title") or file_title(path),
        text=text,
        media_type="application/epub+zip",
        spans=spans,
        metadata=metadata,
        warnings=tuple(warnings),
    )


def _spine(package: Element, folder: str) -> list[str]:
    """The names of the parts that are read, in order."""
    items = {item.get("id"): item for item in package.iter("item")}
    chapters = [items.get(reference.get("idref")) for reference in package.iter("itemref")]
    return [
        posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        for item in chapters
        if item is not None and item.get("media-type") == "application/xhtml+xml"
    ]


def _metadata(package: Element) -> dict[str, str]:
    names = {"title": "title", "creator": "author", "language": "language", "publisher": "publisher"}
    found: dict[str, str] = {}
    metadata = child(package, "metadata")
    for item in metadata if metadata is not None else ():
        if item.tag in names and item.text and item.text.strip():
            found.setdefault(names[item.tag], item.text.strip())
    return found


def _refuse_encrypted(archive: Archive) -> None:
    root = archive.xml_or_none("META-INF/encryption.xml")
    methods = [method.get("Algorithm", "") for method in root.iter("EncryptionMethod")] if root is not None else []
    if any(method not in _FONT_SCRAMBLING for method in methods):
        raise FormatError("it is encrypted (DRM); only books without it can be read")


class Flow:
    """XHTML elements into blocks of text: a paragraph is a block, inline elements run together."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._inline: list[str] = []

    def element(self, element: Element) -> None:
        tag = element.tag
        if tag in _LEFT_OUT:
            return
        if level := re.fullmatch(r"h([1-6])", tag):
            self.flush()
            self._writer.heading(_words(element), int(level[1]))
        elif tag == "table":
            self.flush()
            rows = list(element.iter("tr"))
            named = bool(rows) and all(cell.tag == "th" for cell in rows[0])
            write_table(self._writer, [list(map(_words, row)) for row in rows], named=named)
        elif tag == "pre":
            self.flush()
            self._writer.block("".join(element.itertext()))
        elif tag == "br":
            self._inline.append("\n")
        elif tag == "img":
            self._inline.append(f"[Picture: {element.get('alt')}]" if element.get("alt") else "")
        else:
            self._container(element, is_block=tag in _BLOCKS, is_item=tag == "li")

    def flush(self) -> None:
        """End the paragraph under way."""
        lines = "".join(self._inline).split("\n")
        self._inline.clear()
        self._writer.block("\n".join(" ".join(line.split()) for line in lines))

    def _container(self, element: Element, *, is_block: bool, is_item: bool) -> None:
        if is_block:
            self.flush()
        if is_item:
            self._inline.append("- ")
        self._inline.append(_SPACES.sub(" ", element.text or ""))
        for part in element:
            self.element(part)
            self._inline.append(_SPACES.sub(" ", part.tail or ""))
        if is_block:
            self.flush()


def _words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())
