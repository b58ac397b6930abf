"""A recipe's text: found, read, checked, cut into documents, and split into training and validation parts.

The split is nanoGPT's for one document (the last characters) and by whole documents for many. No torch here.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from octavo.errors import FormatError, OctavoError
from octavo.train.recipe import DataSettings


@dataclass(frozen=True)
class Corpus:
    """Documents for training and for validation, and the checksum of the file they came from."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    sha256: str

    @property
    def characters(self) -> str:
        """Every character of both parts, each once, sorted."""
        return "".join(sorted(set().union(*self.training, *self.validation)))


class Located(Protocol):
    """Where a recipe's file is, and where it can be had."""

    @property
    def path(self) -> str: ...

    @property
    def source(self) -> str | None: ...


def find_text(data: Located, recipe_folder: Path) -> Path:
    """The text file: `data.path` beside the recipe, else from the current folder.

    Raises OctavoError that says where it was sought and how to supply it.
    """
    given = Path(data.path).expanduser()
    places = [recipe_folder / given, given]  # an absolute path is itself in both
    for place in places:
        if place.is_file():
            return place
    sought = " and ".join(dict.fromkeys(str(place) for place in places))
    origin = f"get it from {data.source}" if data.source else "put a UTF-8 text there"
    sentence = f"the training text is not at {sought}; {origin}, or name another with --data FILE"
    raise OctavoError(sentence, param="data.path")


def read_corpus(path: Path, data: DataSettings) -> Corpus:
    """Read and split the text. Raises FormatError for what is not text, OctavoError for a wrong or too short one."""
    content = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    if data.sha256 not in (None, digest):
        raise OctavoError(f"{path} has sha256 {digest}, but data.sha256 asks for {data.sha256}", param="data.sha256")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 at byte {error.start}; convert it first") from None
    documents = [text]
    if data.document_separator is not None:
        documents = [part for part in text.split(data.document_separator) if part.strip()]
    training, validation = split(documents, data.validation_fraction)
    if not any(len(document) > 1 for document in training):
        raise OctavoError(f"{path} holds {len(text)} characters, too few to train on", param="data.path")
    if data.validation_fraction and not any(len(document) > 1 for document in validation):
        raise OctavoError(
            f"data.validation_fraction {data.validation_fraction} of {path} is under two characters; "
            "give more text, a larger fraction, or 0 for no validation",
            param="data.validation_fraction",
        )
    return Corpus(tuple(training), tuple(validation), digest)


def split(documents: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """Training and validation parts: the last `fraction` of one document's characters, or of many documents."""
    if fraction == 0 or not documents:
        return documents, []
    if len(documents) == 1:
        kept = int(len(documents[0]) * (1 - fraction))
        return [documents[0][:kept]], [documents[0][kept:]]
    kept = min(max(round(len(documents) * (1 - fraction)), 1), len(documents) - 1)
    return documents[:kept], documents[kept:]


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"{path} is not a whole gzip file: {error}") from None
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror}", param="data.path") from None
