"""Uploaded files: a row in the server's state, the bytes in a folder, under the file's id and never a client's name.

Bytes are written beside their place, flushed and renamed, and only then does the row exist: a process that is killed
leaves a file that is there whole, or one that nobody heard of, which the next start removes.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final

from octavo.retrieve.documents.reading import READERS, UNREAD
from octavo.serve.errors import ApiError
from octavo.serve.state import State

Object = dict[str, Any]
KIND = "file"
PART = ".part"
LONGEST_NAME = 255
PURPOSES: Final = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


class Files:
    """folder None: a temporary one, removed when closed."""

    def __init__(self, state: State, folder: Path | None) -> None:
        self._state = state
        self._temporary = folder is None
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where the bytes are; made when it is first asked for."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="octavo-files-"))
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder

    def write(self, sources: Iterable[BinaryIO], name: str) -> tuple[str, int]:
        """Bring bytes onto the disk, one source after another: (the id they have now, how many). Blocking.

        Raises ApiError 507 where there is no room.
        """
        file_id = new_file_id()
        path = self.place(file_id, name)
        beside = path.with_name(path.name + PART)
        try:
            with beside.open("wb") as target:
                for source in sources:
                    shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            beside.rename(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise ApiError(507, "no_room", f"The file cannot be kept: {error.strerror}.") from None
        return file_id, size

    def record(self, owner: str, file_id: str, size: int, name: str, purpose: str, seconds: int | None) -> Object:
        """Make the file that was written known. seconds: after which it is forgotten."""
        now = int(time.time())
        row: Object = {
            "id": file_id,
            "object": "file",
            "bytes": size,
            "created_at": now,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            **({} if seconds is None else {"expires_at": now + seconds}),
        }
        self._state.put(KIND, owner, row)
        return row

    def get(self, owner: str, file_id: str) -> Object:
        """A file's row. Raises ApiError 404, also for one that has expired."""
        row = self._state.get(KIND, owner, file_id)
        if row.get("expires_at", float("inf")) <= time.time():
            raise ApiError(404, "not_found", f"The file {file_id[:100]!r} has expired.")
        return row

    def path(self, row: Object) -> Path:
        """Where a file's bytes are. Raises ApiError 404 where somebody removed them, or linked them elsewhere."""
        path = Path(row["_path"]) if "_path" in row else self.place(row["id"], row["filename"])
        outside = "_folder" in row and not path.resolve().is_relative_to(Path(row["_folder"]).resolve())
        if outside or not path.is_file():
            raise ApiError(404, "not_found", f"The content of {row['filename']!r} is not there any more.")
        return path

    def delete(self, owner: str, row: Object) -> None:
        """Forget a file, and remove its bytes where they are ours."""
        self._state.delete(KIND, owner, row["id"])
        if "_path" not in row:
            self.discard(row["id"], row["filename"])

    def discard(self, file_id: str, name: str) -> None:
        """Remove bytes."""
        self.place(file_id, name).unlink(missing_ok=True)

    def remove_orphans(self) -> None:
        """Remove bytes without a row: of uploads that a killed server never finished, and of state that is gone."""
        if self._temporary or self._folder is None or not self._folder.is_dir():
            return
        known = self._state.ids(KIND) | {row["_file"] for _, row in self._state.all("upload part")}
        for path in self._folder.iterdir():
            if path.is_file() and path.name.partition(".")[0] not in known:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove what was temporary. Idempotent."""
        if self._temporary and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def place(self, file_id: str, name: str) -> Path:
        """Where bytes are. The suffix says which reader a file is for, so it stays; only one that we know."""
        suffix = Path(name).suffix.lower()
        return self.folder / f"{file_id}{suffix if suffix in READERS or suffix in UNREAD else ''}"


def new_file_id() -> str:
    """As OpenAI writes them, with a hyphen."""
    return f"file-{secrets.token_hex(12)}"


def clean_name(name: str) -> str:
    """A client's name for a file as it is shown: its last part, without control characters, at most 255 bytes."""
    name = unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(character for character in last if unicodedata.category(character) not in ("Cc", "Cf", "Cs"))
    kept = kept.strip().strip(".") if kept.strip(". ") == "" else kept.strip()
    stem, dot, suffix = kept.rpartition(".")
    if len(kept.encode()) > LONGEST_NAME:
        short = suffix.encode()[:20].decode(errors="ignore") if dot and stem else ""
        kept = (stem or kept).encode()[: LONGEST_NAME - 21].decode(errors="ignore") + (f".{short}" if short else "")
    return kept or "file"
