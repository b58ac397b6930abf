"""Plain text: the bytes decoded, and nothing made of them."""

from __future__ import annotations

from pathlib import Path

from octavo.retrieve.documents.document import Document, Limits, canonical, file_title
from octavo.retrieve.documents.encoding import Decoded, decode


def read(path: Path, limits: Limits) -> Document:
    """The document of a text file. Raises FormatError for bytes that are no text."""
    decoded = decode(path.read_bytes())
    return Document(
        path=str(path),
        title=file_title(path),
        text=canonical(decoded.text),
        media_type="text/plain",
        metadata=said_of(decoded),
        warnings=decoded.warnings,
    )


def said_of(decoded: Decoded) -> dict[str, str]:
    """The encoding as metadata, where it is not the expected one."""
    return {} if decoded.encoding == "utf-8" else {"encoding": decoded.encoding}
