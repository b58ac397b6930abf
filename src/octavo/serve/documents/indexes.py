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
        self._adopted: set[str] = set()
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

    def adopt(self, name: str, store: Store) -> None:
        """Use an index that lies elsewhere: it is closed with the others and never deleted."""
        with self._lock:
            self._open[name] = store
            self._adopted.add(name)

    def is_adopted(self, name: str) -> bool:
        """Whether it is one of those."""
        return name in self._adopted

    def is_current(self, name: str, space: VectorSpace | None) -> bool:
        """Whether there is an index and this encoder made it."""
        path = self.place(name)
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
            if store is not None:
                store.close()
            path = self.place(name)
            if path is not None and path.exists():
                drop(path)

    def close(self) -> None:
        """Close all. Idempotent."""
        with self._lock:
            for store in self._open.values():
                store.close()
            self._open.clear()

    def _opened(self, name: str, space: VectorSpace | None) -> SqliteStore:
        path = self.place(name)
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
        kept = [name for name in self._open if name not in self._adopted]
        for name in kept[: max(0, len(kept) - MOST_OPEN)] if self._folder is not None else ():
            if not self._users[name]:
                self._open.pop(name).close()

    def place(self, name: str) -> Path | None:
        """The file of an index; None in memory."""
        return None if self._folder is None else self._folder / f"{name}.sqlite3"
