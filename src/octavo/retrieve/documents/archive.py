"""Zip archives of XML (DOCX, PPTX, EPUB), read as if their author meant harm.

Sizes are checked before anything is unpacked; no entity that a file defines is ever expanded, no external one loaded;
nesting is bounded. Tags lose their namespace (the formats read here have no two that matter alike); attributes in a
namespace keep it, as `{uri}name`.
"""

from __future__ import annotations

import html.entities
import zipfile
import zlib
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from octavo.errors import FormatError
from octavo.retrieve.documents.document import Limits

MAX_PARTS = 20_000
MAX_DEPTH = 200
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # what encrypted and pre-2007 Office files start with


class Archive:
    """A zip file's parts, by name. Raises FormatError for a broken, encrypted or inflated one."""

    def __init__(self, path: Path, limits: Limits) -> None:
        with path.open("rb") as file:
            start = file.read(len(_OLE))
        if start == _OLE:
            raise FormatError(
                f"it is encrypted, or of a format before 2007; save it as {path.suffix} without a password"
            )
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise FormatError(f"it is broken: {error}") from error
        parts = self._zip.infolist()
        total = sum(part.file_size for part in parts)
        if total > limits.unpacked_bytes or len(parts) > MAX_PARTS:
            self._zip.close()
            limit = f"{limits.unpacked_bytes / 2**20:.0f} MB in {MAX_PARTS} parts"
            size = f"{total / 2**20:.0f} MB in {len(parts)} parts"
            raise FormatError(f"it would unpack to {size}, over the limit of {limit} (a zip bomb?)")
        self.names = frozenset(part.filename for part in parts)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def part(self, name: str) -> bytes:
        """The bytes of a part."""
        try:
            return self._zip.read(name)
        except KeyError as error:
            raise FormatError(f"it is broken: its part {name} is missing") from error
        except RuntimeError as error:  # what zipfile raises for a part with a password
            raise FormatError(f"its part {name} is encrypted; save it without a password") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise FormatError(f"its part {name} is broken: {error}") from error

    def xml(self, name: str) -> Element:
        """The root element of a part."""
        return parse_xml(self.part(name), name)

    def xml_or_none(self, name: str) -> Element | None:
        """The root element of a part that a file need not have."""
        return self.xml(name) if name in self.names else None


def parse_xml(data: bytes, name: str) -> Element:
    """The root element of an XML text. Entities of HTML are known, such as `&nbsp;`; a file's own are refused."""
    parser = expat.ParserCreate(namespace_separator="}")
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise FormatError(f"its part {name} nests deeper than {MAX_DEPTH} elements")
        named = {f"{{{key}" if "}" in key else key: value for key, value in attributes.items()}
        builder.start(tag.rpartition("}")[2], named)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.rpartition("}")[2])

    def skipped(entity: str, is_parameter: bool) -> None:
        if not is_parameter:
            builder.data(html.entities.html5.get(f"{entity};", f"&{entity};"))

    def refuse(entity: str, *_: object) -> None:
        raise FormatError(f"its part {name} defines the entity {entity}, as an attack would; remove its DOCTYPE")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.SkippedEntityHandler, parser.EntityDeclHandler = skipped, refuse
    parser.UseForeignDTD(True)  # so that an entity the file does not define is skipped, not an error
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError) as error:
        raise FormatError(f"its part {name} is broken XML: {error}") from error
