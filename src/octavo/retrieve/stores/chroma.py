"""Vectors in Chroma, in a folder: one collection, which other programs open with its texts and where they are from.

Vectors are given, since Chroma's own default would download a model; its reports to its makers are off. The index is
HNSW over inner products, so a search may miss some; an exact one reads all vectors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from octavo.errors import MissingDependencyError
from octavo.retrieve.stores.store import Passage, Vectors

COLLECTION = "octavo"


class ChromaVectors:
    """Implements `VectorIndex`. folder: Chroma's own files."""

    name = "chroma"

    def __init__(self, folder: Path) -> None:
        try:
            import chromadb
        except ImportError:
            raise MissingDependencyError("--store chroma needs chromadb: pip install 'octavo[chroma]'") from None
        self._client = chromadb.PersistentClient(folder, chromadb.Settings(anonymized_telemetry=False))
        space: Any = {"hnsw": {"space": "ip"}}
        self._collection: Any = self._client.get_or_create_collection(
            COLLECTION, configuration=space, embedding_function=None
        )

    def add(self, ids: Sequence[int], vectors: Vectors, passages: Sequence[Passage]) -> None:
        """Store vectors in place of those that have these ids."""
        step = self._client.get_max_batch_size()
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            self._collection.upsert(
                ids=[str(number) for number in ids[part]],
                embeddings=vectors[part],
                documents=[passage.text for passage in passages[part]],
                metadatas=[
                    {"source": passage.document, "start": passage.place.start, "end": passage.place.end}
                    for passage in passages[part]
                ],
            )

    def remove(self, ids: Sequence[int]) -> None:
        """Take vectors out."""
        step = self._client.get_max_batch_size()
        for start in range(0, len(ids), step):
            self._collection.delete(ids=[str(number) for number in ids[start : start + step]])

    def nearest(
        self, vector: Vectors, limit: int, within: Collection[str] | None, *, exact: bool
    ) -> Iterable[tuple[int, float]]:
        """Ids and inner products, by Chroma's index, or exactly."""
        where = None if within is None else {"source": {"$in": list(within)}}
        if exact:
            found = self._collection.get(where=where, include=["embeddings"])
            products = np.asarray(found["embeddings"], np.float32).reshape(-1, len(vector)) @ vector
            order = np.argsort(-products, kind="stable")[:limit]
            return [(int(found["ids"][at]), float(products[at])) for at in order]
        asked: Any = {"query_embeddings": [vector], "n_results": limit, "where": where, "include": ["distances"]}
        found = self._collection.query(**asked)
        return [(int(name), 1 - far) for name, far in zip(found["ids"][0], found["distances"][0], strict=True)]

    def count(self) -> int:
        """How many there are."""
        number: int = self._collection.count()
        return number

    def close(self) -> None:
        """Nothing is held open by name: Chroma shares a folder's client within a process."""
