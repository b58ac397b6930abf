"""All that a server knows of documents: files, vector stores, their indexes and the task that fills them.

Used on the event loop; what blocks runs in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from octavo.errors import OctavoError
from octavo.generate.embed import Embedder
from octavo.retrieve.filters import Filter
from octavo.retrieve.reader import Reader
from octavo.retrieve.stores.store import VectorSpace
from octavo.serve.documents.files import KIND, Files
from octavo.serve.documents.indexes import Indexes
from octavo.serve.documents.indexing import Indexer
from octavo.serve.documents.requests import Ranking, StoreFileRequest
from octavo.serve.documents.rows import (
    BATCH,
    MEMBER,
    STORE,
    Object,
    document_of,
    file_in_folder,
    is_expired,
    new_batch,
    new_member,
    require_open,
)
from octavo.serve.documents.searching import Found, Shelf, find
from octavo.serve.encoders.pool import EncoderPool
from octavo.serve.errors import ApiError
from octavo.serve.state import State


class DocumentLibrary:
    """folder: where bytes and indexes are kept, None: nowhere beyond the process."""

    def __init__(self, state: State, encoders: EncoderPool, folder: Path | None) -> None:
        self.state = state
        self.files = Files(state, None if folder is None else folder / "files")
        self.indexes = Indexes(None if folder is None else folder / "indexes")
        self.indexer = Indexer(state, self.files, self.indexes, self.encoder)
        self._encoders = encoders
        self._encoder: Embedder | None = None
        self._reader: asyncio.Future[Reader] | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # it holds what people wrote

    async def encoder(self) -> Embedder | None:
        """The first served encoder that embeds; None: passages are found by words alone."""
        for name in self._encoders.references if self._encoder is None else ():
            try:
                self._encoder = await self._encoders.embedder(name)
                break
            except (ApiError, OctavoError):
                continue
        return self._encoder

    async def reader(self) -> Reader | None:
        """The reader that comes with Octavo; None where this machine has nothing to run it with."""
        if self._reader is None:
            self._reader = asyncio.ensure_future(asyncio.to_thread(Reader.load))
        try:
            return await asyncio.shield(self._reader)
        except OctavoError:
            return None

    async def space(self) -> VectorSpace | None:
        """Of the vectors that it makes."""
        encoder = await self.encoder()
        return None if encoder is None else VectorSpace(encoder.name, encoder.dimensions)

    def store(self, owner: str, store_id: str) -> Object:
        """A vector store's row. Raises ApiError 404."""
        return self.state.get(STORE, owner, store_id)

    def add(self, owner: str, store_id: str, wanted: Iterable[StoreFileRequest], *, batch: bool = False) -> Object:
        """Put files into a vector store, to be indexed in their turn: the batch's row, or the last file's.

        Raises ApiError 404 for a file that is not there, before anything is added.
        """
        named = [(one, self.files.get(owner, one.file_id)["filename"]) for one in wanted]
        made = new_batch(store_id)
        batch_id = made["id"] if batch else None
        rows = [new_member(store_id, one, filename, batch_id) for one, filename in named]
        if batch:
            self.state.put(BATCH, owner, made, parent=store_id)
        self.state.put_all(MEMBER, owner, rows, parent=store_id)
        for row in rows:
            self.indexer.add(owner, row)
        return made if batch else rows[-1] if rows else {}

    async def remove(self, owner: str, store_id: str, file_id: str) -> None:
        """Take a file out of a vector store. Raises ApiError 404."""
        self.state.delete(MEMBER, owner, file_id, parent=store_id)
        await asyncio.to_thread(self.indexer.remove, store_id, file_id, await self.space())

    async def delete_file(self, owner: str, file_id: str) -> None:
        """Forget a file, in all vector stores too. Raises ApiError 404."""
        row = self.state.get(KIND, owner, file_id)
        for owning, member in self.state.find_all(MEMBER, "id", file_id):
            if owning == owner:
                await self.remove(owner, member["vector_store_id"], file_id)
        self.files.delete(owner, row)

    async def delete_store(self, owner: str, store_id: str) -> None:
        """Forget a vector store and its index; the files stay. Raises ApiError 404."""
        self.state.delete(STORE, owner, store_id)
        await asyncio.to_thread(self.indexes.drop, store_id)

    async def search(
        self,
        owner: str,
        store_ids: Sequence[str],
        queries: Sequence[str],
        limit: int,
        *,
        where: Filter | None = None,
        ranking: Ranking,
    ) -> list[Found]:
        """The best passages of some vector stores. Raises ApiError 404, and 400 for one that has expired."""
        rows = [require_open(self.store(owner, name)) for name in dict.fromkeys(store_ids)]
        for row in rows:
            row["last_active_at"] = int(time.time())
        self.state.put_all(STORE, owner, rows)
        names = [self._matching(owner, row["id"], where) for row in rows]
        encoder, space = await self.encoder(), await self.space()
        reader = await self.reader() if ranking.reads else None
        return await asyncio.to_thread(
            self._find, rows, names, queries, encoder, space, limit, ranking.score_threshold, reader
        )

    def member(self, owner: str, found: Found) -> Object | None:
        """The row of a passage's file; None where it was deleted meanwhile."""
        document = found.hit.passage.document
        name = file_in_folder(found.store, document) if self.indexes.is_adopted(found.store) else document
        try:
            return self.state.get(MEMBER, owner, name, parent=found.store)
        except ApiError:
            return None

    def _matching(self, owner: str, store_id: str, where: Filter | None) -> tuple[str, ...] | None:
        if where is None:
            return None
        members = self.state.children(MEMBER, owner, store_id)
        return tuple(document_of(row) for row in members if where.matches(row["attributes"]))

    def _find(
        self,
        rows: Sequence[Object],
        names: Sequence[tuple[str, ...] | None],
        queries: Sequence[str],
        encoder: Embedder | None,
        space: VectorSpace | None,
        limit: int,
        threshold: float,
        reader: Reader | None,
    ) -> list[Found]:
        with ExitStack() as held:
            shelves = [
                Shelf(row["id"], held.enter_context(self.indexes.using(row["id"], space)), inside)
                for row, inside in zip(rows, names, strict=True)
            ]
            return find(shelves, queries, encoder, limit, threshold, reader)

    async def text(self, member: Object) -> str:
        """The canonical text of an indexed file of a vector store."""
        space = await self.space()

        def read() -> str:
            with self.indexes.using(member["vector_store_id"], space) as index:
                return index.text(document_of(member))

        return await asyncio.to_thread(read)

    async def recover(self) -> None:
        """Go on where a stopped server was: called when one begins."""
        await asyncio.to_thread(self.files.remove_orphans)
        stores = self.state.all(STORE)
        kept = {row["id"] for _, row in stores}
        for name in self.indexes.names() - kept:
            await asyncio.to_thread(self.indexes.drop, name)
        for owner, row in ((owner, row) for owner, row in stores if "_folder" not in row):
            members = self.state.children(MEMBER, owner, row["id"])
            done = [member for member in members if member["status"] == "completed"]
            if done and not await asyncio.to_thread(self.indexes.is_current, row["id"], await self.space()):
                done = [{**member, "status": "in_progress"} for member in done]
                self.state.put_all(MEMBER, owner, done, parent=row["id"])
                members = self.state.children(MEMBER, owner, row["id"])
            for member in members:
                if member["status"] == "in_progress":
                    self.indexer.add(owner, member)

    async def forget_expired(self) -> None:
        """Delete the files and close the vector stores whose time is over."""
        for owner, row in self.state.all(KIND):
            if row.get("expires_at", float("inf")) <= time.time():
                await self.delete_file(owner, row["id"])
        for owner, row in self.state.all("upload"):
            if row["status"] == "pending" and row["expires_at"] <= time.time():
                for part in self.state.children("upload part", owner, row["id"]):
                    self.files.discard(part["_file"], "")
                self.state.delete("upload", owner, row["id"])
        for _, row in self.state.all(STORE):
            if is_expired(row):
                await asyncio.to_thread(self.indexes.drop, row["id"])

    def close(self) -> None:
        """Stop indexing and close the indexes. Idempotent."""
        self.indexer.stop()
        self.indexes.close()
        self.files.close()
