"""The scan of vectors in the kernels' library, with every size checked before C sees it."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.nn.kernels.binding import level_bit, library
from octavo.nn.kernels.tables.interface import Scan

Floats = NDArray[np.float32]
Int64s = NDArray[np.int64]


def nearest(
    level: str,
    threads: int,
    ids: Int64s,
    vectors: NDArray[np.float32] | NDArray[np.int8],
    scales: Floats | None,
    query: Floats,
    limit: int,
    rows: Int64s | None = None,
) -> tuple[Int64s, Floats]:
    """The `limit` vectors of the greatest inner products with a query: their ids and the products, best first.

    ids: (n,). vectors: (n, d) float32, or int8 with scales (n,). query: (d,). rows: which are compared, None: all.
    Equal products come by rising id. The bits of a product are the same at every level and with any threads. Raises
    ValueError for arrays that do not fit each other, OctavoError when the system refuses memory or threads.
    """
    _check(ids, vectors, scales, query, rows)
    count = len(ids) if rows is None else len(rows)
    limit = min(limit, count)
    if limit < 1:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    best_ids, best_scores = np.empty(limit, np.int64), np.empty(limit, np.float32)
    arrays = (rows, vectors, scales, ids, query, best_ids, best_scores)
    asked = Scan(
        vectors.shape[1], limit, max(1, threads), level_bit(level), count,
        *(None if array is None else array.ctypes.data for array in arrays),
    )  # fmt: skip
    found = library().octavo_scan(ctypes.byref(asked))
    if found < 0:
        raise OctavoError("the system refused memory or threads for a search; close programs or lower OCTAVO_THREADS")
    return best_ids[:found], best_scores[:found]


def _check(
    ids: Int64s,
    vectors: NDArray[np.float32] | NDArray[np.int8],
    scales: Floats | None,
    query: Floats,
    rows: Int64s | None,
) -> None:
    shapes = vectors.ndim == 2 and vectors.shape[1] > 0 and ids.shape == vectors.shape[:1]
    shapes = shapes and query.shape == vectors.shape[1:] and (scales is None or scales.shape == ids.shape)
    types = vectors.dtype == (np.float32 if scales is None else np.int8)
    types = types and ids.dtype == np.int64 and query.dtype == np.float32
    types = types and (scales is None or scales.dtype == np.float32) and (rows is None or rows.dtype == np.int64)
    whole = all(
        array is None or (array.flags.c_contiguous and array.flags.aligned)
        for array in (ids, vectors, scales, query, rows)
    )
    if not (shapes and types and whole):
        raise ValueError("ids, vectors, scales, query and rows do not fit each other")
    if rows is not None and len(rows) and not 0 <= rows.min() <= rows.max() < len(ids):
        raise ValueError("a row is not one of the vectors")
