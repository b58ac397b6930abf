"""Answers are scored as SQuAD's official script scores them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from octavo.metrics.answers import best_threshold, exact_match, normalised, score_answers, token_f1

WORDS = some.lists(
    some.sampled_from(["The", "a", "cat", "cat's", "café", "Ａ", "sat.", "an", "-", "3,000", "貓"]), max_size=6
)
TEXTS = WORDS.map(" ".join)


@pytest.fixture(scope="module")
def squad() -> Callable[..., Any]:
    """The peer's SQuAD score."""
    text = pytest.importorskip("torchmetrics.functional.text", reason="torchmetrics is not installed")
    return text.squad  # type: ignore[no-any-return]


@given(answer=TEXTS, golds=some.lists(TEXTS.filter(normalised), min_size=1, max_size=3))
def test_scores_equal_torchmetrics_squad(squad: Callable[..., Any], answer: str, golds: list[str]) -> None:
    predicted = [{"prediction_text": answer, "id": "q"}]
    target = [{"answers": {"answer_start": [0] * len(golds), "text": golds}, "id": "q"}]
    oracle = squad(predicted, target)
    assert 100 * exact_match(answer, golds) == pytest.approx(float(oracle["exact_match"]))
    assert 100 * token_f1(answer, golds) == pytest.approx(float(oracle["f1"]), abs=1e-4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  U.S. Army!", "us army"),
        ("theatre", "theatre"),
        ("an A-team", "ateam"),
        ("a\tthe\nan", ""),
        ("«x»", "«x»"),
    ],
)
def test_normalisation_is_the_official_one(text: str, expected: str) -> None:
    assert normalised(text) == expected


def test_no_answer_is_right_only_where_there_is_none() -> None:
    assert exact_match("", []) == token_f1("", []) == 1
    assert exact_match("x", []) == token_f1("x", []) == 0
    assert exact_match("", ["x"]) == token_f1("", ["x"]) == 0


def test_the_two_kinds_of_question_are_scored_apart() -> None:
    golds = {"1": ["Norman king"], "2": ["Paris", "the city"], "3": [], "4": []}
    scores = score_answers({"1": "the king", "2": "city", "3": "", "4": "wrong"}, golds)
    assert (scores.count, scores.exact, scores.no_answer) == (4, 50.0, 50.0)
    assert scores.has_answer_exact == 50.0
    assert scores.has_answer_f1 == pytest.approx((200 / 3 + 100) / 2)
    assert scores.f1 == pytest.approx((200 / 3 + 100 + 100 + 0) / 4)


def test_a_question_that_was_not_answered_counts_as_empty() -> None:
    assert score_answers({}, {"1": ["x"], "2": []}).exact == 50.0


@given(some.lists(some.tuples(some.booleans(), some.floats(0, 1), some.integers(0, 5)), min_size=1, max_size=12))
def test_no_other_threshold_is_better(rows: list[tuple[bool, float, int]]) -> None:
    golds = {str(n): ["x"] if has else [] for n, (has, _, _) in enumerate(rows)}
    scores = {str(n): value if has else 0.0 for n, (has, value, _) in enumerate(rows)}
    doubts = {str(n): float(n + 10 * doubt) for n, (_, _, doubt) in enumerate(rows)}

    def reached(threshold: float) -> float:
        kept = [scores[name] if doubts[name] <= threshold else float(not golds[name]) for name in golds]
        return 100 * sum(kept) / len(kept)

    best, threshold = best_threshold(scores, doubts, golds)
    tried = [reached(value) for value in (-1.0, *doubts.values())]
    assert best == pytest.approx(max(tried))
    assert best == pytest.approx(reached(threshold)) or best == pytest.approx(reached(-1.0))


def test_always_answering_nothing_on_the_shared_squad_is_the_published_half(shared: Path) -> None:
    file = shared / "data/qa/squad2-dev.json.gz"
    data = json.loads(gzip.decompress(file.read_bytes()))["data"]
    questions = [qa for article in data for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    golds = {qa["id"]: [answer["text"] for answer in qa["answers"]] for qa in questions}
    assert score_answers({}, golds).f1 == pytest.approx(50.24, abs=0.005)
