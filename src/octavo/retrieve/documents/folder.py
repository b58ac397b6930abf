"""A folder's files, one by one: each gives a document or a line that says why it does not.

Files whose readers can hang or swell are read in a process apart (`worker.py`), with a limit on time and memory.
Unusual: a walk never leaves the folder (a link that points out is a line, a link that points up is a line), and the
order is that of the names, so that two runs agree.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from octavo.errors import OctavoError
from octavo.retrieve.documents.document import Document, Limits, Skipped
from octavo.retrieve.documents.ignoring import Ignore
from octavo.retrieve.documents.worker import Reader

UNSEEN = ("__pycache__", "node_modules")
"""Folders that nobody writes by hand; hidden names (with a leading dot) are passed over as well."""


def read_folder(folder: Path | str, limits: Limits | None = None) -> Iterator[Document | Skipped]:
    """Every document of a folder and those below it, in the order of their paths, and a `Skipped` for the rest.

    Hidden files and what a `.gitignore` or `.octavoignore` names are passed over in silence.
    Raises OctavoError for a folder that is not there.
    """
    root = Path(folder)
    if not root.is_dir():
        raise OctavoError(f"{root} is not a folder; give one, or use read for a single file")
    with Reader(limits) as reader:
        for path in walk(root):
            if isinstance(path, Skipped):
                yield path
                continue
            try:
                yield reader.read(path)
            except OctavoError as error:
                yield Skipped(str(path), str(error).removeprefix(f"{path} "))


def walk(root: Path) -> Iterator[Path | Skipped]:
    """The plain files that a folder's documents may come from, in order, and a line for each link and pipe."""
    yield from _walk(root, (Path(os.path.realpath(root)),), Ignore())


def _walk(folder: Path, above: tuple[Path, ...], ignore: Ignore) -> Iterator[Path | Skipped]:
    """above: the real paths of this folder and its parents, the walk's root first."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Skipped(str(folder), f"the folder cannot be opened: {error.strerror}")
        return
    ignore = ignore.within(folder)
    for entry in entries:
        path = folder / entry.name
        if not _is_unicode(entry.name):
            yield Skipped(os.fsencode(path).decode("utf-8", "backslashreplace"), "its name is not UTF-8; rename it")
            continue
        if entry.name.startswith(".") or entry.name in UNSEEN:
            continue
        if ignore.matches(path, is_folder=entry.is_dir(follow_symlinks=False)):
            continue
        real = Path(os.path.realpath(path))
        refusal = _refuse_link(path, real, above) if entry.is_symlink() else None
        if refusal is not None:
            yield Skipped(str(path), refusal)
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path, (*above, real), ignore)
        elif entry.is_file():
            yield path
        else:
            yield Skipped(str(path), "not a plain file (a pipe, socket or device)")


def _is_unicode(name: str) -> bool:
    """Whether a name can be stored and printed: one of other bytes comes as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _refuse_link(path: Path, real: Path, above: tuple[Path, ...]) -> str | None:
    """Why a symbolic link is not followed; None for one to follow."""
    if not path.exists():
        return "a link that leads nowhere"
    if real in above:
        return f"a link back to a folder that holds it ({real.name}); following it would never end"
    if not real.is_relative_to(above[0]):
        return "a link that leads out of the folder; copy the file in, or index its folder too"
    return "a link to a place in this folder, which is read there"
