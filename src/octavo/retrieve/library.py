"""A folder with its index: where the index lies, which encoder it was made with, and the search over both.

The index of a folder is kept in the cache, under the folder's name and a hash of its path: documents may be on a disk
that is only read, and an index among them would be a document itself. Another file, or a PostgreSQL, may be named.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from octavo import settings
from octavo.errors import OctavoError, UnknownNameError, nearest
from octavo.retrieve.indexing import Report, index_folder
from octavo.retrieve.passages import Splitting
from octavo.retrieve.search import Search, TextEncoder
from octavo.retrieve.stores import postgres
from octavo.retrieve.stores.outside import KINDS, open_vectors
from octavo.retrieve.stores.sqlite import SqliteStore, found_space, is_index
from octavo.retrieve.stores.store import Store, VectorSpace

DEFAULT_ENCODER = "all-minilm-l6-v2"
NO_ENCODER = "none"
STORES = ("sqlite", *KINDS)
LoadEncoder = Callable[[str], TextEncoder]


@dataclass(frozen=True)
class Library:
    """A folder's documents, open for search.

    place: where the index is. note: why there is no search by meaning, where there is none.
    """

    folder: Path
    place: str
    store: Store
    encoder: TextEncoder | None
    note: str | None = None

    @property
    def search(self) -> Search:
        """The search over it."""
        return Search(self.store, self.encoder)

    def update(self, chunk_size: int | None = None, overlap: int | None = None, *, show: bool = True) -> Report:
        """Index what changed. chunk_size, overlap: None as before; other values than before cut everything anew.

        show: progress on stderr.
        """
        before = json.loads(self.store.recall("splitting") or "{}")
        given = {"chunk_size": chunk_size, "overlap": overlap}
        splitting = Splitting(**{**before, **{name: value for name, value in given.items() if value is not None}})
        report = index_folder(self.folder, self.store, self.encoder, splitting, show=show)
        self.store.remember("splitting", json.dumps(asdict(splitting)))
        return report

    def close(self) -> None:
        """Close the index. Idempotent."""
        self.store.close()


def open_library(
    folder: Path,
    load: LoadEncoder,
    *,
    index: str | None = None,
    store: str | None = None,
    encoder: str | None = None,
    rebuild: bool = False,
) -> Library:
    """Open a folder's index, or make an empty one.

    load: makes an encoder of a model reference. index: a file, or a PostgreSQL address, where a folder has a schema of
    its own; None: the folder's own file in the cache. store: `sqlite`, `chroma`, `qdrant` or `lance`, which keeps the
    vectors in a folder beside that file, or a PostgreSQL address; None: what `index` says. encoder: a model reference
    or `none`; None: the one that the index was made with, the default one for a new index. rebuild: drop what is there.
    Raises OctavoError for an index that was made with another encoder than the one named.
    """
    if not folder.is_dir():
        raise OctavoError(f"there is no folder {folder}")
    home = _home(folder, index, store)
    if rebuild and home.exists():
        home.drop()
    return (_open if home.exists() else _make)(folder, home, load, encoder)


class Home(Protocol):
    """Where an index is kept: a file, or a schema of a database."""

    @property
    def name(self) -> str: ...

    def exists(self) -> bool: ...

    def open(self, space: VectorSpace | None) -> Store: ...

    def drop(self) -> None: ...


def _home(folder: Path, index: str | None, store: str | None) -> Home:
    address = next((place for place in (store, index) if place and is_address(place)), None)
    if address is not None:
        if index not in (None, address):
            raise OctavoError(f"the index cannot be at {index} and at {address}; name one", param="--index")
        if store not in (None, address):
            raise OctavoError(f"--store {store} keeps its index in files, not at {index}", param="--store")
        return _Server(address, folder)
    kind = store or "sqlite"
    if kind not in STORES:
        known = f"{', '.join(STORES)} and postgresql:// addresses"
        wrong = f"no store is called {kind!r}{nearest(kind, STORES)}; there are {known}"
        raise UnknownNameError(wrong, param="--store")
    path = Path(index or index_path(folder))
    return _File(path) if kind == "sqlite" else _File(path if index else path.with_suffix(f".{kind}.sqlite3"), kind)


@dataclass(frozen=True)
class _File:
    path: Path
    outside: str | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        return self.path.exists()

    def open(self, space: VectorSpace | None) -> Store:
        space = space or (found_space(self.path) if self.outside and self.path.exists() else None)
        if self.outside is None or space is None:
            return SqliteStore(self.path, space)
        return SqliteStore(self.path, space, vectors=open_vectors(self.outside, self._vectors, space.dimensions))

    def drop(self) -> None:
        drop(self.path)
        shutil.rmtree(self._vectors, ignore_errors=True)

    @property
    def _vectors(self) -> Path:
        return self.path.with_name(f"{self.path.name}.{self.outside}")


@dataclass(frozen=True)
class _Server:
    address: str
    folder: Path

    @property
    def name(self) -> str:
        return f"schema {self._schema} of {self.address.rpartition('@')[2]}"

    @property
    def _schema(self) -> str:
        return f"octavo_{_hash(self.folder)}"

    def exists(self) -> bool:
        return postgres.has_index(self.address, self._schema)

    def open(self, space: VectorSpace | None) -> Store:
        return postgres.PostgresStore(self.address, space, schema=self._schema)

    def drop(self) -> None:
        postgres.drop_index(self.address, self._schema)


def is_address(index: str) -> bool:
    """Whether an index is named by a server's address."""
    return index.startswith(("postgresql://", "postgres://"))


def index_path(folder: Path) -> Path:
    """Where a folder's index is kept when no other place is named."""
    return settings.cache_dir() / "indexes" / f"{folder.resolve().name}-{_hash(folder)}.sqlite3"


def _hash(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def drop(path: Path) -> None:
    """Delete an index and its journal, of whatever version. Raises OctavoError for a file that is none."""
    if not is_index(path):
        raise OctavoError(f"{path} is not an index of Octavo, so it stays; name another file")
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _open(folder: Path, home: Home, load: LoadEncoder, encoder: str | None) -> Library:
    store = home.open(None)
    made_with = store.space.encoder if store.space else NO_ENCODER
    if encoder not in (None, made_with):
        store.close()
        raise OctavoError(
            f"the index of {folder} was made with the encoder {made_with}, not {encoder}; "
            "index anew with --rebuild, or leave --encoder out"
        )
    if store.space is None:
        return Library(
            folder, home.name, store, None, "the index was made without an encoder; --rebuild --encoder MODEL adds one"
        )
    try:
        return Library(folder, home.name, store, load(made_with))
    except BaseException:
        store.close()
        raise


def _make(folder: Path, home: Home, load: LoadEncoder, encoder: str | None) -> Library:
    if encoder == NO_ENCODER:
        return Library(folder, home.name, home.open(None), None)
    reference = encoder or DEFAULT_ENCODER
    try:
        loaded = load(reference)
    except OctavoError as error:
        if encoder is not None:
            raise
        return Library(
            folder, home.name, home.open(None), None, f"there is no search by meaning, only by words: {error}"
        )
    space = VectorSpace(reference, loaded.dimensions)
    return Library(folder, home.name, home.open(space), loaded)
