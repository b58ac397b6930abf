"""What is written whole or not at all: a file, a folder, a transaction."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from octavo.writing import transaction, whole_file, whole_folder


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(partial: Path, text: str) -> None:
    (partial / "inside" if partial.is_dir() else partial).write_text(text)


def content(path: Path) -> str:
    return (path / "inside" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_what_is_written_takes_the_place_of_what_was_there(whole: Any, tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole(tmp_path / "it") as partial:
            fill(partial, text)
            assert left(tmp_path) == sorted({partial.name, *(["it"] if text == "new" else [])})
    assert content(tmp_path / "it") == "new"
    assert left(tmp_path) == ["it"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_block_that_fails_leaves_what_was_there(whole: Any, tmp_path: Path) -> None:
    with whole(tmp_path / "it") as partial:
        fill(partial, "old")
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "it") as partial:
        fill(partial, "half")
        raise ZeroDivisionError
    assert content(tmp_path / "it") == "old"
    assert left(tmp_path) == ["it"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_full_disk_leaves_what_was_there(whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with whole(tmp_path / "it") as partial:
        fill(partial, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"), whole(tmp_path / "it") as partial:
        fill(partial, "new")
    assert content(tmp_path / "it") == "old"
    assert left(tmp_path) == ["it"]


def test_a_transaction_is_done_or_not_at_all() -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE kept (number)")
    with transaction(database):
        database.execute("INSERT INTO kept VALUES (1)")
    failing: AbstractContextManager[Any] = pytest.raises(ZeroDivisionError)
    with failing, transaction(database):
        database.execute("INSERT INTO kept VALUES (2)")
        raise ZeroDivisionError
    assert database.execute("SELECT number FROM kept").fetchall() == [(1,)]
    assert not database.in_transaction
