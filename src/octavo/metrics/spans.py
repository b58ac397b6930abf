"""How well spans were found: those of words (Sproat and Emerson 2003, SIGHAN's bakeoff) or of entities (CoNLL-2003).

A span counts where start, end and, if it has one, type are all right.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SpanScores:
    """In percent: of the found ones, how many are right; of the true ones, how many were found; their harmonic mean."""

    precision: float
    recall: float
    f1: float


def score_spans(found: Sequence[Iterable[Hashable]], true: Sequence[Iterable[Hashable]]) -> SpanScores:
    """Spans of each sentence, found and true; all sentences count together. No span at all: 0."""
    pairs = [(set(one), set(other)) for one, other in zip(found, true, strict=True)]
    right = sum(len(one & other) for one, other in pairs)
    precision = 100 * right / max(1, sum(len(one) for one, _ in pairs))
    recall = 100 * right / max(1, sum(len(other) for _, other in pairs))
    return SpanScores(precision, recall, 2 * precision * recall / max(precision + recall, 1e-9))


def word_spans(words: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end of each word in their text."""
    spans, at = [], 0
    for word in words:
        spans.append((at, at + len(word)))
        at += len(word)
    return spans
