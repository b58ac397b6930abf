"""Folders as vector stores (`octavo serve --docs FOLDER`): indexed when the server starts, and read only.

Their index is the one that `octavo ask FOLDER` uses, unless another encoder made that; what has not changed is not read
again. While a folder is indexed, what is done can be searched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from octavo.errors import OctavoError
from octavo.generate.embed import Embedder
from octavo.retrieve.indexing import Report
from octavo.retrieve.library import NO_ENCODER, Library, open_library
from octavo.retrieve.search import TextEncoder
from octavo.retrieve.stores.store import Listing, Vectors
from octavo.serve.documents.files import KIND
from octavo.serve.documents.indexing import AT_ONCE, Indexer
from octavo.serve.documents.library import DocumentLibrary
from octavo.serve.documents.requests import StoreFileRequest, StoreRequest
from octavo.serve.documents.rows import MEMBER, STORE, Object, file_in_folder, new_member, new_store
from octavo.serve.documents.served import ServedFolder

log = logging.getLogger("octavo.serve")
LOOK_SECONDS = 1.0
"""Between looks at what is indexed so far."""
MOST_ATTRIBUTES, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512


async def serve_folders(documents: DocumentLibrary, owner: str, folders: Sequence[ServedFolder]) -> None:
    """Show folders as vector stores, index them one after another, and forget those that are served no more."""
    wanted = {folder.store_id: folder for folder in folders}
    for owning, row in documents.state.all(STORE):
        if "_folder" in row and row["id"] not in wanted:
            _forget(documents, owning, row)
    for store_id, folder in wanted.items():
        shown = StoreRequest(name=folder.name, metadata={"made_by": "folder"})
        ours = {"id": store_id, "_folder": str(folder.path), "_reading": True}
        documents.state.put(STORE, owner, {**new_store(shown), **ours})
    for store_id, folder in wanted.items():
        try:
            await _Reading(documents, owner, store_id, folder).run()
        except OctavoError as error:
            log.warning("the documents in %s are not served: %s", folder.path, error)
        documents.state.put(STORE, owner, {**documents.state.get(STORE, owner, store_id), "_reading": False})


class _Reading:
    """One run over a folder: its index is brought up to date in a thread, its rows follow on the event loop."""

    def __init__(self, documents: DocumentLibrary, owner: str, store_id: str, folder: ServedFolder) -> None:
        self._documents = documents
        self._owner = owner
        self._store_id = store_id
        self._folder = folder

    async def run(self) -> None:
        encoder = await self._documents.encoder()
        library = await asyncio.to_thread(self._open, encoder)
        self._documents.indexes.adopt(self._store_id, library.store)
        updating = asyncio.ensure_future(asyncio.to_thread(library.update, show=not self._folder.quiet))
        while not updating.done():
            await asyncio.wait([updating], timeout=LOOK_SECONDS)
            await self._follow(library, None)
        await self._follow(library, await updating)

    def _open(self, encoder: Embedder | None) -> Library:
        """The folder's own index, or one of ours beside the server's state where another encoder made that."""
        name = NO_ENCODER if encoder is None else encoder.name

        def load(reference: str) -> TextEncoder:
            assert encoder is not None, "no encoder is loaded for an index without vectors"
            return _Interruptible(encoder, self._documents.indexer)

        try:
            return open_library(self._folder.path, load, encoder=name)
        except OctavoError:
            ours = self._documents.indexes.place(self._store_id)
            if ours is None:
                raise
        try:
            return open_library(self._folder.path, load, encoder=name, index=str(ours))
        except OctavoError:
            return open_library(self._folder.path, load, encoder=name, index=str(ours), rebuild=True)

    async def _follow(self, library: Library, report: Report | None) -> None:
        """Bring the rows up to date. report: of a run that has ended."""
        listing = await asyncio.to_thread(library.store.listing)
        state, owner, store_id = self._documents.state, self._owner, self._store_id
        known = {row["_document"]: row for row in state.children(MEMBER, owner, store_id)}
        fresh = {
            name: entry for name, entry in listing.items() if known.get(name, {}).get("_print") != entry.fingerprint
        }
        members = [self._member(name, entry) for name, entry in fresh.items()]
        if report is not None:
            problems = {name: problem.reason for problem in report.skipped if (name := self._relative(problem.path))}
            members += [self._failed(name, reason) for name, reason in problems.items() if name not in listing]
            for name in known.keys() - listing.keys() - problems.keys():
                _drop(self._documents, owner, known[name])
        state.put_all(KIND, owner, [self._file(member["_document"]) for member in members])
        state.put_all(MEMBER, owner, members, parent=store_id)

    def _member(self, name: str, entry: Listing) -> Object:
        short = [
            (key, value if not isinstance(value, str) else value[:LONGEST_VALUE])
            for key, value in entry.metadata.items()
            if len(key) <= LONGEST_KEY
        ]
        done = {"status": "completed", "attributes": dict(short[:MOST_ATTRIBUTES]), "_print": entry.fingerprint}
        return {**self._row(name), **done, "usage_bytes": self._size(name)}

    def _failed(self, name: str, reason: str) -> Object:
        said = reason[:1].upper() + reason[1:].rstrip(".") + "."
        return {**self._row(name), "status": "failed", "last_error": {"code": "invalid_file", "message": said}}

    def _row(self, name: str) -> Object:
        wanted = StoreFileRequest(file_id=file_in_folder(self._store_id, name))
        return {**new_member(self._store_id, wanted, name, None), "_document": name}

    def _file(self, name: str) -> Object:
        return {
            "id": file_in_folder(self._store_id, name),
            "object": "file",
            "bytes": self._size(name),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": "assistants",
            "status": "processed",
            "_path": str(self._folder.path / name),
            "_folder": str(self._folder.path),
        }

    def _relative(self, path: str) -> str:
        """A skipped file's name in the folder, whichever way it was told."""
        full = Path(path)
        inside = full.relative_to(self._folder.path) if full.is_relative_to(self._folder.path) else full
        return inside.as_posix()

    def _size(self, name: str) -> int:
        try:
            return (self._folder.path / name).stat().st_size
        except OSError:
            return 0


class _Interruptible:
    """An encoder that ends its work, a few passages later, when the server stops."""

    def __init__(self, encoder: Embedder, indexer: Indexer) -> None:
        self._encoder = encoder
        self._indexer = indexer
        self.dimensions = encoder.dimensions

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage", "plain"] = "plain") -> Vectors:
        made = [np.zeros((0, self.dimensions), dtype=np.float32)]
        for start in range(0, len(texts), AT_ONCE):
            if self._indexer.stopped:
                raise OctavoError("the server stops")
            made.append(self._encoder.embed(texts[start : start + AT_ONCE], kind=kind))
        return np.concatenate(made)

    def unknown_fraction(self, texts: Sequence[str]) -> float:
        return self._encoder.unknown_fraction(texts)


def _forget(documents: DocumentLibrary, owner: str, row: Object) -> None:
    for member in documents.state.children(MEMBER, owner, row["id"]):
        _drop(documents, owner, member)
    documents.state.delete(STORE, owner, row["id"])


def _drop(documents: DocumentLibrary, owner: str, member: Object) -> None:
    """Forget a file of a folder; it stays where it is."""
    documents.state.delete(MEMBER, owner, member["id"], parent=member["vector_store_id"])
    if documents.state.has(KIND, owner, member["id"]):
        documents.state.delete(KIND, owner, member["id"])
