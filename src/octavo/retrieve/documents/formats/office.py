"""What DOCX and PPTX share (ECMA-376): relations between parts, core properties, tables' rows."""

from __future__ import annotations

import posixpath
from xml.etree.ElementTree import Element

from octavo.errors import FormatError
from octavo.retrieve.documents.archive import Archive

RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_PROPERTIES = {"title": "title", "creator": "author", "modified": "modified", "subject": "subject"}


def relations(archive: Archive, part: str) -> dict[str, tuple[str, str]]:
    """Of each relation of a part, by id: the last word of its type, and the part it leads to."""
    folder, name = posixpath.split(part)
    root = archive.xml_or_none(posixpath.join(folder, "_rels", f"{name}.rels"))
    found: dict[str, tuple[str, str]] = {}
    for relation in root if root is not None else ():
        if relation.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/")
            found[relation.get("Id", "")] = (relation.get("Type", "").rpartition("/")[2], target)
    return found


def main_part(archive: Archive, kind: str) -> str:
    """The name of the part that holds the document itself. kind: the format, for the error."""
    for type_name, target in relations(archive, "").values():
        if type_name == "officeDocument":
            return target
    raise FormatError(f"it is no {kind} file: no part of it is the document")


def properties(archive: Archive) -> dict[str, str]:
    """Title, author and such, as the file says them."""
    root = archive.xml_or_none("docProps/core.xml")
    found = ((_PROPERTIES.get(item.tag), (item.text or "").strip()) for item in (root if root is not None else ()))
    return {name: value for name, value in found if name and value}


def child(element: Element, *path: str) -> Element | None:
    """The element down a path of tags; None where a step is missing."""
    found: Element | None = element
    for tag in path:
        found = None if found is None else found.find(tag)
    return found
