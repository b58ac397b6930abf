"""Rankings are scored as trec_eval scores them, on any run and any judgements."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from octavo.metrics.ranking import average_precision, ndcg, ranked, recall, reciprocal_rank

pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec-eval-terrier is not installed")
NAMES = [f"d{number}" for number in range(30)]
SCORES = some.dictionaries(some.sampled_from(NAMES), some.integers(0, 6).map(lambda n: n / 4), min_size=1)
RELEVANCE = some.dictionaries(some.sampled_from(NAMES), some.integers(0, 4), min_size=1)


@given(SCORES, RELEVANCE, some.sampled_from([1, 5, 10]))
def test_every_measure_equals_trec_eval(scores: dict[str, float], relevance: dict[str, int], depth: int) -> None:
    measures = {f"ndcg_cut.{depth}", f"recall.{depth}", "recip_rank", "map"}
    oracle: dict[str, Any] = pytrec_eval.RelevanceEvaluator({"q": relevance}, measures).evaluate({"q": scores})["q"]
    ranking = ranked(scores)
    assert ndcg(ranking, relevance, depth) == pytest.approx(oracle[f"ndcg_cut_{depth}"], abs=1e-6)
    assert recall(ranking, relevance, depth) == pytest.approx(oracle[f"recall_{depth}"], abs=1e-6)
    assert reciprocal_rank(ranking, relevance) == pytest.approx(oracle["recip_rank"], abs=1e-6)
    assert average_precision(ranking, relevance) == pytest.approx(oracle["map"], abs=1e-6)


def test_the_ideal_of_ndcg_counts_what_was_never_found() -> None:
    assert ndcg(["a"], {"a": 1, "b": 1}, 10) == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_reciprocal_rank_stops_at_its_depth() -> None:
    assert reciprocal_rank(["x", "y", "a"], {"a": 1}, 3) == pytest.approx(1 / 3)
    assert reciprocal_rank(["x", "y", "a"], {"a": 1}, 2) == 0
