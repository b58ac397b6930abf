"""The index of each vector store: one SQLite file, opened when it is first needed, closed when others need the room."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octavo.errors import OctavoError
from octavo.retrieve.library import drop
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Store, VectorSpace

MOST_OPEN = 16


class Indexes:
    """folder None: in memory. Thread-safe."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[str, Store] = {}  # the least recently used first
        self._lent: set[str] = set()
        self._users: Counter[str] = Counter()

    @contextmanager
    def using(self, name: str, space: VectorSpace | None) -> Iterator[Store]:
        """A vector store's index, open while inside. space: of a new one; one of another encoder is made anew, empty.

        Raises OctavoError for a file that cannot be opened.
        """
        with self._lock:
            store = self._open.pop(name, None) or self._opened(name, space)
            self._open[name] = store
            self._users[name] += 1
            self._close_unused()
        try:
            yield store
        finally:
            with self._lock:
                self._users[name] -= 1

    def lend(self, name: str, store: Store) -> None:
        """Use an index that somebody else keeps, and closes."""
        with self._lock:
            self._open[name] = store
            self._lent.add(name)

    def is_lent(self, name: str) -> bool:
        """Whether it is one of those."""
        return name in self._lent

    def is_current(self, name: str, space: VectorSpace | None) -> bool:
        """Whether there is an index and this encoder made it."""
        path = self._path(name)
        if path is None or not path.exists():
            return False
        try:
            store = SqliteStore(path, None)
        except OctavoError:
            return False
        store.close()
        return store.space == space

    def names(self) -> set[str]:
        """The vector stores that have an index on disk."""
        return {path.stem for path in self._folder.glob("*.sqlite3")} if self._folder is not None else set()

    def drop(self, name: str) -> None:
        """Delete an index. Idempotent."""
        with self._lock:
            store = self._open.pop(name, None)
            if store is not None and name not in self._lent:
                store.close()
            path = self._path(name)
            if path is not None and path.exists():
                drop(path)

    def close(self) -> None:
        """Close all. Idempotent."""
        with self._lock:
            for name, store in self._open.items():
                if name not in self._lent:
                    store.close()
            self._open.clear()

    def _opened(self, name: str, space: VectorSpace | None) -> SqliteStore:
        path = self._path(name)
        if path is None or not path.exists():
            return SqliteStore(path, space)
        store = SqliteStore(path, None)
        if store.space == space:
            return store
        store.close()
        drop(path)
        return SqliteStore(path, space)

    def _close_unused(self) -> None:
        """In memory nothing is closed: it would be lost."""
        kept = [name for name in self._open if name not in self._lent]
        for name in kept[: max(0, len(kept) - MOST_OPEN)] if self._folder is not None else ():
            if not self._users[name]:
                self._open.pop(name).close()

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{name}.sqlite3"
