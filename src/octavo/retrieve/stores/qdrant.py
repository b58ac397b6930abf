"""Vectors in Qdrant's local mode, in a folder: its server's interface in one process, every vector compared.

A folder is open in one process at a time. Within it, all stores share one client.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.errors import MissingDependencyError, OctavoError
from octavo.retrieve.stores.store import Passage, Vectors

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

COLLECTION = "octavo"
_BATCH = 1000
_lock = threading.Lock()
_clients: dict[Path, tuple[QdrantClient, int]] = {}
"""The open client of a folder, and how many hold it."""


class QdrantVectors:
    """Implements `VectorIndex`. folder: Qdrant's own files. Raises OctavoError where another process has it open."""

    name = "qdrant"

    def __init__(self, folder: Path, dimensions: int) -> None:
        try:
            from qdrant_client import models
        except ImportError:
            raise MissingDependencyError("--store qdrant needs qdrant-client: pip install 'octavo[qdrant]'") from None
        self._folder = folder.resolve()
        self._models = models
        self._client = _taken(self._folder)
        self._open = True
        if not self._client.collection_exists(COLLECTION):
            size = models.VectorParams(size=dimensions, distance=models.Distance.DOT)
            self._client.create_collection(COLLECTION, vectors_config=size)

    def add(self, ids: Sequence[int], vectors: Vectors, passages: Sequence[Passage]) -> None:
        """Store vectors in place of those that have these ids."""
        points = [
            self._models.PointStruct(
                id=number,
                vector=vector.tolist(),
                payload={
                    "source": passage.document,
                    "start": passage.place.start,
                    "end": passage.place.end,
                    "text": passage.text,
                },
            )
            for number, vector, passage in zip(ids, vectors, passages, strict=True)
        ]
        for start in range(0, len(points), _BATCH):
            self._client.upsert(COLLECTION, points[start : start + _BATCH])

    def remove(self, ids: Sequence[int]) -> None:
        """Take vectors out."""
        self._client.delete(COLLECTION, points_selector=list(ids))

    def nearest(
        self, vector: Vectors, limit: int, within: Collection[str] | None, *, exact: bool
    ) -> Iterable[tuple[int, float]]:
        """Ids and inner products, exact or not: local mode compares every vector, and warns where it is told to."""
        models = self._models
        held = None
        if within is not None:
            among = models.FieldCondition(key="source", match=models.MatchAny(any=list(within)))
            held = models.Filter(must=[among])
        found = self._client.query_points(
            COLLECTION,
            query=vector.tolist(),
            limit=limit,
            query_filter=held,
            with_payload=False,
        )
        return [(int(point.id), point.score) for point in found.points]

    def count(self) -> int:
        """How many there are."""
        number: int = self._client.count(COLLECTION).count
        return number

    def close(self) -> None:
        """Let go of the folder."""
        if self._open:
            self._open = False
            _let_go(self._folder)


def _taken(folder: Path) -> QdrantClient:
    from qdrant_client import QdrantClient

    with _lock:
        if folder not in _clients:
            try:
                _clients[folder] = QdrantClient(path=str(folder), force_disable_check_same_thread=True), 0
            except RuntimeError as error:
                if "already accessed" not in str(error):
                    raise
                raise OctavoError(f"the Qdrant folder {folder} is open in another process; close that first") from None
        client, holders = _clients[folder]
        _clients[folder] = client, holders + 1
        return client


def _let_go(folder: Path) -> None:
    with _lock:
        client, holders = _clients.pop(folder)
        if holders > 1:
            _clients[folder] = client, holders - 1
            return
        with contextlib.suppress(OSError):
            client.close()
