"""The reader of a file, chosen by its suffix; a suffix we do not know is read where its bytes are text."""

from __future__ import annotations

import importlib
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Final

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.retrieve.documents.document import Document, Limits, canonical
from octavo.retrieve.documents.formats.code import LANGUAGES

READERS: Final[dict[str, str]] = {
    **dict.fromkeys((".txt", ".text", ".log", ".rst", ".tex", ".json", ".toml", ".yaml", ".yml", ".ini"), "plain"),
    **dict.fromkeys((".md", ".markdown", ".mdx", ".qmd"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".docx", ".docm"), "docx"),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx"), "pptx"),
    **dict.fromkeys((".csv", ".tsv", ".jsonl", ".ndjson"), "rows"),
    **dict.fromkeys(LANGUAGES, "code"),
    ".pdf": "pdf",
    ".epub": "epub",
}
"""Suffix to the module of `formats/` that reads it."""
UNREAD: Final[dict[str, str]] = {
    **dict.fromkeys((".doc", ".rtf", ".odt", ".pages"), "DOCX or PDF"),
    **dict.fromkeys((".ppt", ".odp", ".key"), "PPTX or PDF"),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".numbers"), "CSV"),
    **dict.fromkeys((".mobi", ".azw", ".azw3"), "EPUB"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".7z", ".rar"), "a folder, by unpacking it"),
}
"""Known formats that are not read, and what to save them as."""
RISKY: Final = ("pdf", "html", "docx", "pptx", "epub")
"""Readers that a folder's walk runs in a process apart."""


def read(path: Path | str, limits: Limits | None = None) -> Document:
    """The document that a file holds.

    Raises FormatError for a file that is broken, encrypted, over its limits or no text, UnsupportedError for a format
    that nobody here reads, MissingDependencyError for one whose library is not installed, OctavoError for no file.
    """
    path, limits = Path(path), limits or Limits()
    check_file(path, limits)
    reader = importlib.import_module(f"octavo.retrieve.documents.formats.{reader_of(path)}")
    try:
        document: Document = reader.read(path, limits)
    except OctavoError:
        raise
    except MemoryError as error:
        raise FormatError("it needs more memory than reading a file may take; split it") from error
    except Exception as error:  # a parser's bare exception on a damaged file
        raise FormatError(f"it is broken: {_one_line(error)}") from error
    if not document.text.strip():
        because = "; ".join(document.warnings) or "there is nothing in it"
        raise FormatError(f"it gives no text: {because}")
    said = {name: canonical(value) for name, value in document.metadata.items()}
    return replace(document, title=" ".join(canonical(document.title).split()), metadata=said)


def reader_of(path: Path) -> str:
    """The module of `formats/` for a path. Raises UnsupportedError for a file whose first bytes are no text."""
    name = READERS.get(path.suffix.lower())
    if name is not None:
        return name
    if path.suffix.lower() in UNREAD:
        raise UnsupportedError(f"{path.suffix} files are not read; save it as {UNREAD[path.suffix.lower()]}")
    with path.open("rb") as file:
        start = file.read(4096)
    if b"\0" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff")):
        kind = f"{path.suffix} files" if path.suffix else "binary files without a suffix"
        raise UnsupportedError(f"{kind} are not read; save it as text, PDF or HTML")
    return "plain"


def check_file(path: Path, limits: Limits) -> None:
    """Refuse what is no plain file (a pipe would block for ever), cannot be opened, or is too large."""
    try:
        status = path.stat()
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedError(f"{path} is not a plain file; give a file, or a folder to read_folder")
    if status.st_size > limits.file_bytes:
        size = f"{status.st_size / 2**20:.0f} MB"
        raise FormatError(f"{size} is over the limit of {limits.file_bytes / 2**20:.0f} MB a file; split it")
    if not os.access(path, os.R_OK):
        raise OctavoError(f"{path} cannot be read: permission denied")


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}{f' ({words[:120]})' if words else ''}"
