"""What a server keeps: responses, conversations, stored completions and their parts, in one SQLite file.

Each row is a JSON object with an id and an owner (a hash of the key that made it); another's row does not exist. What
was written is on disk before the client hears of it: the journal is a write-ahead log, which survives a killed process.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octavo.errors import OctavoError
from octavo.serve.errors import ApiError
from octavo.writing import transaction

SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL, parent TEXT NOT NULL, data TEXT NOT NULL,
  UNIQUE (kind, owner, parent, id)
);
CREATE INDEX IF NOT EXISTS child ON object (parent, kind, position);
"""
VERSION = 1
Order = Literal["asc", "desc"]


@dataclass(frozen=True)
class Page:
    """Some objects of a list, and whether more follow."""

    objects: list[dict[str, Any]]
    has_more: bool

    def body(self) -> dict[str, Any]:
        """OpenAI's list."""
        ids = [entry["id"] for entry in self.objects]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return {"object": "list", "data": self.objects, "first_id": first, "last_id": last, "has_more": self.has_more}


class State:
    """path None: in memory, gone with the process. Thread-safe. Raises OctavoError for a bad file."""

    def __init__(self, path: Path | None) -> None:
        self._writing = threading.Lock()
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("PRAGMA busy_timeout=5000")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise OctavoError(f"{path} was written by a newer Octavo; upgrade it, or serve with --no-store")
            self._database.executescript(SCHEMA)
            self._database.execute(f"PRAGMA user_version={VERSION}")
            if path is not None:
                path.chmod(0o600)  # it holds what people said
        except (sqlite3.Error, OSError) as error:
            raise OctavoError(
                f"the server's state in {path} cannot be opened: {error}; --no-store keeps none"
            ) from None

    def put(self, kind: str, owner: str, data: Mapping[str, Any], *, parent: str = "") -> None:
        """Write an object, in place of one of the same id."""
        self.put_all(kind, owner, [data], parent=parent)

    def put_all(self, kind: str, owner: str, objects: Iterable[Mapping[str, Any]], *, parent: str = "") -> None:
        """Write several, all or none."""
        rows = [(kind, entry["id"], owner, parent, json.dumps(entry, ensure_ascii=False)) for entry in objects]
        with self._transaction():
            self._database.executemany(
                "INSERT INTO object (kind, id, owner, parent, data) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (kind, owner, parent, id) DO UPDATE SET data = excluded.data",
                rows,
            )

    def get(self, kind: str, owner: str, name: str, *, parent: str = "") -> dict[str, Any]:
        """An object by its id. Raises ApiError 404."""
        row = self._database.execute(
            "SELECT data FROM object WHERE kind = ? AND owner = ? AND parent = ? AND id = ?",
            (kind, owner, parent, name),
        ).fetchone()
        if row is None:
            raise ApiError(404, "not_found", f"There is no {kind} with the id {name[:100]!r}.")
        found: dict[str, Any] = json.loads(row[0])
        return found

    def has(self, kind: str, owner: str, name: str) -> bool:
        """Whether there is such an object."""
        sought = "SELECT 1 FROM object WHERE kind = ? AND owner = ? AND id = ?"
        return self._database.execute(sought, (kind, owner, name)).fetchone() is not None

    def delete(self, kind: str, owner: str, name: str, *, parent: str = "") -> None:
        """Delete an object and all that is part of it. Raises ApiError 404."""
        self.get(kind, owner, name, parent=parent)
        with self._transaction():
            self._database.execute("DELETE FROM object WHERE owner = ? AND parent = ?", (owner, name))
            self._database.execute(
                "DELETE FROM object WHERE kind = ? AND owner = ? AND parent = ? AND id = ?",
                (kind, owner, parent, name),
            )

    def children(self, kind: str, owner: str, parent: str) -> list[dict[str, Any]]:
        """All parts of an object, in the order in which they were written."""
        rows = self._database.execute(
            "SELECT data FROM object WHERE parent = ? AND kind = ? AND owner = ? ORDER BY position",
            (parent, kind, owner),
        )
        return [json.loads(data) for (data,) in rows]

    def page(
        self,
        kind: str,
        owner: str,
        *,
        parent: str = "",
        after: str | None = None,
        before: str | None = None,
        limit: int = 20,
        order: Order = "desc",
        metadata: Mapping[str, str] | None = None,
        having: Mapping[str, str | None] | None = None,
    ) -> Page:
        """Part of a list. after, before: ids between which to look, in the list's order. Raises ApiError 404 for those.

        metadata: only objects with this in theirs; having: only those whose fields have these values, None: any.
        """
        conditions, values = ["kind = ?", "owner = ?", "parent = ?"], [kind, owner, parent]
        for bound, past in ((after, order == "asc"), (before, order == "desc")):
            if bound is not None:
                self.get(kind, owner, bound, parent=parent)
                conditions.append(
                    f"position {'>' if past else '<'} (SELECT position FROM object "
                    "WHERE kind = ? AND owner = ? AND parent = ? AND id = ?)"
                )
                values += [kind, owner, parent, bound]
        for key, value in (metadata or {}).items():
            conditions.append("json_extract(data, '$.metadata.' || json_quote(?)) = ?")
            values += [key, value]
        for field, wanted in (having or {}).items():
            if wanted is not None:
                conditions.append("json_extract(data, '$.' || ?) = ?")
                values += [field, wanted]
        rows = self._database.execute(
            f"SELECT data FROM object WHERE {' AND '.join(conditions)} "
            f"ORDER BY position {'ASC' if order == 'asc' else 'DESC'} LIMIT ?",
            (*values, limit + 1),
        ).fetchall()
        return Page([json.loads(data) for (data,) in rows[:limit]], len(rows) > limit)

    def counts(self, kind: str, owner: str, parent: str, having: Mapping[str, str]) -> dict[str, tuple[int, int]]:
        """Of an object's parts by their status: how many, and the sum of their usage_bytes."""
        conditions = "".join(" AND json_extract(data, '$.' || ?) = ?" for _ in having)
        rows = self._database.execute(
            "SELECT json_extract(data, '$.status'), count(*), sum(json_extract(data, '$.usage_bytes')) FROM object "
            f"WHERE kind = ? AND owner = ? AND parent = ?{conditions} GROUP BY 1",
            (kind, owner, parent, *(part for pair in having.items() for part in pair)),
        )
        return {status: (count, size or 0) for status, count, size in rows}

    def all(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        """Owner and object of all of a kind: for the server itself, never for a client."""
        rows = self._database.execute("SELECT owner, data FROM object WHERE kind = ? ORDER BY position", (kind,))
        return [(owner, json.loads(data)) for owner, data in rows]

    def ids(self, kind: str) -> set[str]:
        """The ids of all objects of a kind: for the server itself, never for a client."""
        return {name for (name,) in self._database.execute("SELECT id FROM object WHERE kind = ?", (kind,))}

    def find_item(self, owner: str, name: str) -> dict[str, Any] | None:
        """An item by its id, whichever list it is part of."""
        row = self._database.execute(
            "SELECT data FROM object WHERE owner = ? AND id = ? AND kind IN ('item', 'input_item')", (owner, name)
        ).fetchone()
        if row is not None:
            return dict(json.loads(row[0]))
        row = self._database.execute(
            "SELECT entry.value FROM object, json_each(object.data, '$.output') AS entry "
            "WHERE kind = 'response' AND owner = ? AND json_extract(entry.value, '$.id') = ?",
            (owner, name),
        ).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def find_all(self, kind: str, field: str, value: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """Owner and object of all whose top-level field has that value: for the server itself, never for a client."""
        rows = self._database.execute(
            "SELECT owner, data FROM object WHERE kind = ? AND json_extract(data, '$.' || ?) = ?", (kind, field, value)
        )
        return [(owner, json.loads(data)) for owner, data in rows]

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._writing, transaction(self._database):
            yield


def new_id(prefix: str) -> str:
    """An id that nobody can guess, such as resp_0123456789abcdef01234567."""
    return f"{prefix}_{secrets.token_hex(12)}"


def owner_of(key: str | None) -> str:
    """Whose rows: a hash of the key, or '' where no key is asked."""
    return "" if key is None else hashlib.sha256(key.encode()).hexdigest()
