"""The task that fills vector stores: one file after another, while the server answers.

Rows are read and written on the event loop alone; reading, embedding and storing run in threads. Between these steps,
and between a few passages that are embedded, it looks whether the file is still wanted: deleting one ends its work.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from octavo.errors import OctavoError, UnsupportedError
from octavo.generate.embed import Embedder
from octavo.retrieve.documents import Reader
from octavo.retrieve.documents.document import file_title
from octavo.retrieve.passages import Prepared, Splitting, embed, prepare
from octavo.retrieve.stores.store import VectorSpace
from octavo.serve.documents.files import Files
from octavo.serve.documents.indexes import Indexes
from octavo.serve.documents.requests import AUTO
from octavo.serve.documents.rows import MEMBER, Object
from octavo.serve.errors import ApiError
from octavo.serve.state import State

log = logging.getLogger("octavo.serve")
AT_ONCE = 32
"""Passages embedded between two looks."""
CHARACTERS_A_TOKEN = 4
"""Where no encoder counts tokens."""


@dataclass(frozen=True)
class Wanted:
    """A file that a vector store waits for. turn: of the row that asked for it."""

    owner: str
    store: str
    file: str
    turn: str


class Unwanted(Exception):
    """The file was taken out of its vector store, or the server stops."""


class Indexer:
    """Used on the event loop. encoder: gives the embedder, None where none is served."""

    def __init__(
        self, state: State, files: Files, indexes: Indexes, encoder: Callable[[], Awaitable[Embedder | None]]
    ) -> None:
        self._state = state
        self._files = files
        self._indexes = indexes
        self._encoder = encoder
        self._queue: deque[Wanted] = deque()
        self._task: asyncio.Task[None] | None = None
        self.stopped = False
        self._reader = Reader()
        self.progress: dict[tuple[str, str], float] = {}
        """Of a vector store and a file in work: the share that is done."""

    def add(self, owner: str, row: Object) -> None:
        """Index the file of a row when its turn comes."""
        self._queue.append(Wanted(owner, row["vector_store_id"], row["id"], row["_turn"]))
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._work())

    def stop(self) -> None:
        """Give up what is in work; its rows stay in progress, and the next start goes on. Idempotent."""
        self.stopped = True
        self._queue.clear()
        self._reader.close()

    async def _work(self) -> None:
        while self._queue:
            wanted = self._queue.popleft()
            try:
                await self._index(wanted)
            except Unwanted:
                continue
            except Exception as error:
                self._failed(wanted, error)
            finally:
                self.progress.pop((wanted.store, wanted.file), None)
        self._reader.close()

    async def _index(self, wanted: Wanted) -> None:
        row = self._row(wanted)
        path = self._files.path(self._files.get(wanted.owner, wanted.file))
        encoder = await self._encoder()
        space = None if encoder is None else VectorSpace(encoder.name, encoder.dimensions)
        prepared = await asyncio.to_thread(self._prepare, row, path, encoder)
        self._row(wanted)
        await asyncio.to_thread(self._store, wanted, prepared, encoder, space)
        try:
            done = self._row(wanted)
        except Unwanted:
            await asyncio.to_thread(self.remove, wanted.store, wanted.file, space)
            raise
        done |= {"status": "completed", "usage_bytes": len(prepared.source.text.encode())}
        self._state.put(MEMBER, wanted.owner, done, parent=wanted.store)

    def remove(self, store: str, file: str, space: VectorSpace | None) -> None:
        """Take a file out of an index, for good. Blocking."""
        with self._indexes.using(store, space) as index:
            index.delete([file])
            index.compact()

    def _row(self, wanted: Wanted) -> Object:
        """The file's row. Raises Unwanted where it is gone, cancelled, or was added anew."""
        try:
            row = self._state.get(MEMBER, wanted.owner, wanted.file, parent=wanted.store)
        except ApiError:
            raise Unwanted from None
        if self.stopped or row["_turn"] != wanted.turn or row["status"] != "in_progress":
            raise Unwanted
        return row

    def _prepare(self, row: Object, path: Path, encoder: Embedder | None) -> Prepared:
        document = self._reader.read(path)
        if document.title == file_title(path):  # the name on the disk is ours
            document = replace(document, title=file_title(row["filename"]))
        static = row["chunking_strategy"].get("static")
        splitting, tokenizer = AUTO, None
        if static is not None:
            size, overlap = static["max_chunk_size_tokens"], static["chunk_overlap_tokens"]
            scale = CHARACTERS_A_TOKEN if encoder is None else 1
            splitting = Splitting(size * scale, overlap * scale)
            tokenizer = None if encoder is None else encoder.tokenizer
        return prepare(row["id"], document.sha256, document, splitting, encoder, tokenizer)

    def _store(self, wanted: Wanted, prepared: Prepared, encoder: Embedder | None, space: VectorSpace | None) -> None:
        place = wanted.store, wanted.file

        def embedded(done: int, of: int) -> None:
            self.progress[place] = self.progress.get(place, 0.0) + done / of
            self._row(wanted)

        vectors = None if encoder is None else embed(encoder, [prepared], embedded, at_once=AT_ONCE)[0]
        with self._indexes.using(wanted.store, space) as index:
            index.put(prepared.source, prepared.places, vectors)

    def _failed(self, wanted: Wanted, error: Exception) -> None:
        try:
            row = self._row(wanted)
        except Unwanted:
            return
        if isinstance(error, ApiError):
            code, message = "invalid_file", error.message
        elif isinstance(error, OctavoError):
            code = "unsupported_file" if isinstance(error, UnsupportedError) else "invalid_file"
            message = str(error)
        else:
            log.error("indexing the file %s failed with %s", wanted.file, type(error).__name__)
            code, message = "server_error", "The server failed on this file."
        said = message[:1].upper() + message[1:].rstrip(".") + "."
        row |= {"status": "failed", "last_error": {"code": code, "message": said}}
        self._state.put(MEMBER, wanted.owner, row, parent=wanted.store)
