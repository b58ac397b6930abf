"""The scan of vectors against numpy's products in double precision, at every level this machine has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import MissingDependencyError
from octavo.nn.kernels import binding
from octavo.nn.kernels.scanning import nearest

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

every_level = pytest.mark.parametrize("level", LEVELS)


@every_level
@settings(deadline=None)
@given(
    count=st.integers(0, 3000),
    dimensions=st.integers(1, 200),
    limit=st.integers(1, 40),
    int8=st.booleans(),
    picked=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_best_are_those_of_numpy(
    level: str, count: int, dimensions: int, limit: int, int8: bool, picked: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    query = generator.standard_normal(dimensions).astype(np.float32)
    scales = generator.uniform(0.5, 2, count).astype(np.float32) if int8 else None
    vectors = (
        generator.integers(-127, 128, (count, dimensions)).astype(np.int8)
        if int8
        else generator.standard_normal((count, dimensions)).astype(np.float32)
    )
    ids = generator.permutation(10 * count)[:count].astype(np.int64)
    rows = np.flatnonzero(generator.random(count) < 0.5) if picked else None
    found, scores = nearest(level, 2, ids, vectors, scales, query, limit, rows)
    exact = vectors.astype(np.float64) @ query * (1 if scales is None else scales.astype(np.float64))
    compared = np.arange(count) if rows is None else rows
    assert len(found) == min(limit, len(compared)) == len(set(found.tolist()))
    row_of = {name: row for row, name in enumerate(ids.tolist())}
    of = np.array([exact[row_of[name]] for name in found.tolist()])
    reach = np.abs(query).sum() * (np.abs(vectors.astype(np.float64)).max(initial=1)) * (2 if int8 else 1)
    tolerance = reach * (2e-4 if int8 else 1e-6)
    assert np.allclose(scores, of, atol=tolerance)
    best = np.sort(exact[compared])[::-1][: len(found)]
    assert np.allclose(of, best, atol=2 * tolerance)
    assert np.all(np.diff(scores) <= 0)


def test_every_level_and_number_of_threads_gives_the_same_bits() -> None:
    generator = np.random.default_rng(1)
    vectors, query = generator.standard_normal((9000, 384)).astype(np.float32), np.ones(384, np.float32)
    steps, scales, ids = (
        generator.integers(-127, 128, (9000, 384)).astype(np.int8),
        np.ones(9000, np.float32),
        np.arange(9000),
    )
    for stored, scale in ((vectors, None), (steps, scales)):
        results = [nearest(level, threads, ids, stored, scale, query, 50) for level in LEVELS for threads in (1, 2, 5)]
        for found, scores in results[1:]:
            assert np.array_equal(found, results[0][0]) and np.array_equal(scores, results[0][1])


@every_level
def test_equal_products_come_by_rising_id_and_no_number_is_not_found(level: str) -> None:
    vectors = np.ones((5000, 3), np.float32)
    vectors[7] = np.nan
    ids = np.arange(5000)[::-1].copy()
    found, scores = nearest(level, 3, ids, vectors, None, np.ones(3, np.float32), 6)
    assert found.tolist() == [0, 1, 2, 3, 4, 5] and set(scores.tolist()) == {3.0}
    assert len(nearest(level, 1, ids, vectors, None, np.ones(3, np.float32), 6000)[0]) == 4999


@every_level
def test_the_largest_int8_vectors_do_not_overflow(level: str) -> None:
    """Every step at its end and every entry of the query at its largest: the sum must fit its int32."""
    for dimensions in (384, 4096):
        vectors = np.full((2, dimensions), 127, np.int8)
        vectors[1] = -127
        _, scores = nearest(level, 1, np.arange(2), vectors, np.ones(2, np.float32), np.ones(dimensions, np.float32), 2)
        assert scores == pytest.approx([127 * dimensions, -127 * dimensions], rel=1e-5)


def test_arrays_that_do_not_fit_are_refused() -> None:
    ids, vectors, query = np.arange(4), np.zeros((4, 8), np.float32), np.zeros(8, np.float32)
    for wrong in (
        (ids[:3], vectors, None, query, 1, None),
        (ids, vectors, None, query[:7], 1, None),
        (ids, vectors, np.ones(4, np.float32), query, 1, None),
        (ids, vectors.astype(np.int8), None, query, 1, None),
        (ids, vectors[:, ::2], None, query[:4], 1, None),
        (ids, vectors, None, query, 1, np.array([4])),
        (ids, vectors, None, query, 1, np.array([-1])),
    ):
        with pytest.raises(ValueError):
            nearest(LEVELS[-1], 1, *wrong)  # type: ignore[arg-type]
