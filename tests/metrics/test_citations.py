"""Citation precision and recall, on worked examples of their definition."""

from __future__ import annotations

import pytest

from octavo.metrics.citations import CitedSentence, citation_f1, citation_precision, citation_recall


def says(sentence: str, passage: str) -> bool:
    return sentence in passage


ANSWER = [CitedSentence("red", ["red blue", "green"]), CitedSentence("blue", ["blue"]), CitedSentence("white", [])]


def test_precision_counts_citations_and_recall_counts_sentences() -> None:
    assert citation_precision(ANSWER, says) == pytest.approx(2 / 3)
    assert citation_recall(ANSWER, says) == pytest.approx(2 / 3)
    assert citation_f1(ANSWER, says) == pytest.approx(2 / 3)


def test_a_sentence_may_be_supported_by_its_citations_together() -> None:
    both = [CitedSentence("a\nb", ["a", "b"])]
    assert citation_recall(both, says) == 1
    assert citation_precision(both, says) == 0


def test_an_answer_without_citations_has_recall_zero_and_an_empty_one_has_no_fault() -> None:
    assert citation_recall([CitedSentence("x", [])], says) == 0
    assert citation_precision([CitedSentence("x", [])], says) == 1
    assert citation_recall([], says) == citation_precision([], says) == 1
