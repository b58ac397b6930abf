"""Files, folders and transactions that are written whole or not at all.

What is new is made beside its place, brought to the disk and renamed, so that a crash or a full disk leaves what was
there before.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


@contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """A path beside `path` to write a file to, which takes its place when the block ends well, and else vanishes.

    lasting: whether to wait for the disk; a file that is checked when it is read, and made again, need not outlive a
    loss of power. Raises OSError where the disk refuses.
    """
    partial = _beside(path, "partial")
    try:
        yield partial
        if lasting:
            _keep(partial)
        partial.replace(path)
        if lasting:
            _keep(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same of a folder, which is there, empty, when the block begins; one that has the name already is replaced."""
    partial, previous = _beside(path, "partial"), _beside(path, "previous")
    try:
        partial.mkdir(parents=True)
        yield partial
        for file in partial.rglob("*"):
            _keep(file)
        if path.exists():
            path.rename(previous)
        partial.rename(path)
        _keep(path.parent)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """What is done to a database in autocommit mode while it lasts is done, or none of it. One at a time."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}-{secrets.token_hex(4)}")


def _keep(path: Path) -> None:
    """Have the disk hold a file or a folder, before a rename says that it is there, or after."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
