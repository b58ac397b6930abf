"""A folder into a store, and only what changed: each file is known by the hash of its bytes.

A document goes in whole or not at all, so work that is stopped, or killed, goes on where it was; a file that cannot be
read is a line in the report, and the rest is indexed. Documents whose files are gone are deleted.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from octavo.errors import OctavoError
from octavo.progress import Track, track
from octavo.retrieve.documents import Document, Reader, Skipped
from octavo.retrieve.documents.folder import walk
from octavo.retrieve.passages import BATCH, Prepared, Splitting, embed, prepare
from octavo.retrieve.search import TextEncoder
from octavo.retrieve.stores.store import Store, Vectors

MAKING = 2
"""Of the rules that make passages of a file; an index made by others is made anew, file by file."""
NAMED = 3
"""Documents that a note names before it counts the rest."""


@dataclass(frozen=True)
class Report:
    """What an indexing did. skipped: files that gave no document; notes: what else a person should know."""

    added: int
    changed: int
    removed: int
    unchanged: int
    passages: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    seconds: float


def index_folder(
    folder: Path,
    store: Store,
    encoder: TextEncoder | None = None,
    splitting: Splitting | None = None,
    *,
    show: bool = True,
) -> Report:
    """Make a store hold what a folder holds now. show: progress on stderr.

    Raises OctavoError for a folder that is not there, and where the store keeps vectors and no encoder is given.
    """
    if not folder.is_dir():
        raise OctavoError(f"there is no folder {folder}")
    if (encoder is None) != (store.space is None):
        raise OctavoError("a store with vectors is filled with their encoder, and one without them without one")
    return _Indexing(folder, store, encoder, splitting or Splitting()).run(show)


class _Indexing:
    """One run over a folder."""

    def __init__(self, folder: Path, store: Store, encoder: TextEncoder | None, splitting: Splitting) -> None:
        self._folder = folder
        self._store = store
        self._encoder = encoder
        self._splitting = splitting
        self._before = store.listing()
        self._skipped: list[Skipped] = []
        self._notes: list[str] = []
        self._unknown: list[str] = []
        self._passages = 0

    def run(self, show: bool) -> Report:
        started = time.monotonic()
        files = self._files()
        fresh = {name: print_ for name, print_ in files.items() if not self._is_stored(name, print_)}
        with track(sum(map(self._size, fresh)), "Indexing", unit="B", show=show) as work:
            indexed = self._index(fresh, work)
        gone = [name for name in self._before if name not in files or (name in fresh and name not in indexed)]
        self._store.delete(gone)
        changed = len(indexed & self._before.keys())
        if gone or changed:
            self._store.compact()
        if indexed:
            self._store.arrange(show=show)
        return Report(
            added=len(indexed) - changed,
            changed=changed,
            removed=len(gone),
            unchanged=len(files) - len(fresh),
            passages=self._passages,
            skipped=tuple(self._skipped),
            notes=(*self._notes, *_unknown_note(self._unknown)),
            seconds=time.monotonic() - started,
        )

    def _files(self) -> dict[str, str]:
        """Every file by its name in the folder, with the fingerprint of what would be made of it now."""
        made_with = (MAKING, self._splitting, self._store.space)
        files = {}
        for path in walk(self._folder):
            if isinstance(path, Skipped):
                self._skipped.append(path)
                continue
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                self._skipped.append(Skipped(str(path), f"it cannot be read: {error.strerror or error}"))
                continue
            both = f"{content} {made_with}"
            files[path.relative_to(self._folder).as_posix()] = hashlib.sha256(both.encode()).hexdigest()
        return files

    def _is_stored(self, name: str, fingerprint: str) -> bool:
        return name in self._before and self._before[name].fingerprint == fingerprint

    def _index(self, fresh: dict[str, str], work: Track) -> set[str]:
        """Read, cut, embed and store these files; the names of those that gave a document."""
        indexed = set()
        with Reader() as reader:
            for batch in self._batches(fresh, reader, work):
                for prepared, vectors in zip(batch, self._embed(batch, work), strict=True):
                    self._store.put(prepared.source, prepared.places, vectors)
                    indexed.add(prepared.source.name)
                    self._passages += len(prepared.places)
                work.advance(0, note=f"{self._passages:,} passages")
        return indexed

    def _batches(self, fresh: dict[str, str], reader: Reader, work: Track) -> Iterator[list[Prepared]]:
        batch: list[Prepared] = []
        for name, fingerprint in fresh.items():
            try:
                document = reader.read(self._folder / name)
            except OctavoError as error:
                self._skipped.append(Skipped(name, str(error).removeprefix(f"{self._folder / name} ")))
                work.advance(self._size(name))
                continue
            self._notes += [f"{name}: {warning}" for warning in document.warnings]
            batch.append(self._prepare(name, fingerprint, document))
            if sum(len(prepared.places) for prepared in batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _prepare(self, name: str, fingerprint: str, document: Document) -> Prepared:
        prepared = prepare(name, fingerprint, document, self._splitting, self._encoder)
        if self._encoder is not None and not prepared.known:
            self._unknown.append(name)
        return prepared

    def _embed(self, batch: Sequence[Prepared], work: Track) -> Sequence[Vectors | None]:
        """Vectors of each document of a batch."""
        size = sum(self._size(prepared.source.name) for prepared in batch)
        if self._encoder is None or not any(prepared.known and prepared.texts for prepared in batch):
            work.advance(size)
        if self._encoder is None:
            return [None] * len(batch)
        return embed(self._encoder, batch, lambda done, of: work.advance(size * done / of))

    def _size(self, name: str) -> int:
        """Bytes of a file; 0 for one that has just gone."""
        try:
            return (self._folder / name).stat().st_size
        except OSError:
            return 0


def _unknown_note(names: Sequence[str]) -> list[str]:
    """One line for all documents that the encoder does not know."""
    if not names:
        return []
    named = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
    its = "its words, so it is" if len(names) == 1 else "their words, so they are"
    return [f"{named}: the encoder does not know {its} searched by words alone"]
