"""Vectors in LanceDB, in a folder: one table, which other programs read with its texts and where they are from.

Every vector is compared, unless the table has been given an index by other means.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from octavo.errors import MissingDependencyError
from octavo.retrieve.stores.store import Passage, Vectors

TABLE = "octavo"
_AGE = datetime.timedelta(milliseconds=1)
"""Versions of the table that are older lose their files once something is removed. LanceDB warns of nought."""


class LanceVectors:
    """Implements `VectorIndex`. folder: LanceDB's own files."""

    name = "lance"

    def __init__(self, folder: Path, dimensions: int) -> None:
        try:
            import lancedb
            import pyarrow
        except ImportError:
            raise MissingDependencyError("--store lance needs lancedb: pip install 'octavo[lance]'") from None
        self._arrow: Any = pyarrow
        self._schema = pyarrow.schema(
            [
                ("id", pyarrow.int64()),
                ("vector", pyarrow.list_(pyarrow.float32(), dimensions)),
                ("source", pyarrow.string()),
                ("start", pyarrow.int64()),
                ("end", pyarrow.int64()),
                ("text", pyarrow.string()),
            ]
        )
        always_new = datetime.timedelta(0)  # what other connections wrote is seen at once
        database = lancedb.connect(folder, read_consistency_interval=always_new)
        self._table: Any = database.create_table(TABLE, schema=self._schema, exist_ok=True)

    def add(self, ids: Sequence[int], vectors: Vectors, passages: Sequence[Passage]) -> None:
        """Store vectors in place of those that have these ids."""
        rows = self._arrow.table(
            {
                "id": list(ids),
                "vector": self._arrow.FixedSizeListArray.from_arrays(
                    self._arrow.array(np.asarray(vectors, np.float32).reshape(-1)), vectors.shape[1]
                ),
                "source": [passage.document for passage in passages],
                "start": [passage.place.start for passage in passages],
                "end": [passage.place.end for passage in passages],
                "text": [passage.text for passage in passages],
            },
            schema=self._schema,
        )
        self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def remove(self, ids: Sequence[int]) -> None:
        """Take vectors out, and the versions that still had them."""
        if ids:
            self._table.delete(f"id IN ({', '.join(map(str, ids))})")
            self._table.optimize(cleanup_older_than=_AGE)

    def nearest(
        self, vector: Vectors, limit: int, within: Collection[str] | None, *, exact: bool
    ) -> Iterable[tuple[int, float]]:
        """Ids and inner products."""
        asked = self._table.search(vector).distance_type("dot").limit(limit).select(["id", "_distance"])
        if within is not None:
            names = ", ".join("'" + name.replace("'", "''") + "'" for name in within)
            asked = asked.where(f"source IN ({names})", prefilter=True)
        found = (asked.bypass_vector_index() if exact else asked).to_arrow()
        return [(row["id"], 1 - row["_distance"]) for row in found.to_pylist()]

    def count(self) -> int:
        """How many there are."""
        number: int = self._table.count_rows()
        return number

    def close(self) -> None:
        """Nothing is held open."""
