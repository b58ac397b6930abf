"""Answers that a reader keeps honest: it marks the exact span, or says that there is none; a chat model only phrases.

What the chat model says stays where it says what the span says and passes the check of `grounded.py`; otherwise the
span's own sentence is quoted. The reader ranks passages, too: by how surely each answers the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from octavo.generate.lm import LanguageModel
from octavo.generate.tasks.reading import Answer, Reader
from octavo.metrics.answers import normalised
from octavo.retrieve import grounded
from octavo.retrieve.grounded import REFUSAL, Citation, GroundedAnswer
from octavo.retrieve.stores.store import Hit
from octavo.retrieve.support import sentences
from octavo.retrieve.views import view

__all__ = ["Answer", "Reader", "answer", "first", "kept_honest", "read", "refused", "rerank"]

T = TypeVar("T")
WEIGHT = 0.5
"""Of how sure the reader is of a passage, beside the search's score as a share of the best one's."""
SURE, STEP = -2.0, 2.0
"""The score for having an answer that counts as even odds, and the logits that change the odds by a factor of e. It is
no part of the way from a question's least passage to its best: where the reader sees no answer, it has no say."""
DEPTH = 10
"""Passages that are ranked anew."""
BEHIND = 8.0
"""What stands against an answer from a passage whose score is a share of the best one's: so many log-odds times what
is missing. Each passage more tempts to an answer where there is none, and most questions are answered by the first."""


def answer(model: LanguageModel, question: str, hits: Sequence[Hit], reader: Reader | None) -> GroundedAnswer:
    """Answer a question from passages, best first. No model is asked where the reader finds no answer in them.

    reader None: the chat model alone, its sentences checked.
    """
    if not hits or reader is None or not reader.knows(question):
        return grounded.answer(model, question, hits)
    found = read(reader, question, hits)
    if not found.answered:
        return refused(hits, found)
    ordered = first(hits, found)
    return kept_honest(grounded.answer(model, question, ordered), found, ordered)


def read(reader: Reader, question: str, hits: Sequence[Hit]) -> Answer:
    """What the reader marks in some passages, best first; an answer from a passage far behind must be much surer."""
    best = max(hit.score for hit in hits)
    behind = [BEHIND * (1 - hit.score / best) if best > 0 else 0.0 for hit in hits]
    views = [view(hit.passage) for hit in hits]
    found = reader.answer(question, [one.text for one in views], behind, [one.unsaid for one in views])
    start, end = views[found.passage].range(found.start, found.end)
    return replace(found, text=hits[found.passage].passage.text[start:end], start=start, end=end)


def first(items: Sequence[T], found: Answer) -> list[T]:
    """What belongs to the passages, that of the marked words before the others."""
    return [items[found.passage], *items[: found.passage], *items[found.passage + 1 :]]


def refused(hits: Sequence[Hit], found: Answer) -> GroundedAnswer:
    """That the documents do not answer."""
    return GroundedAnswer(REFUSAL, answered=False, hits=tuple(hits), no_answer_score=found.no_answer_score)


def kept_honest(phrased: GroundedAnswer, found: Answer, ordered: Sequence[Hit]) -> GroundedAnswer:
    """What a model said of passages, the marked one first, where it says the marked words; else their sentence."""
    span = grounded.cited(1, ordered[0].passage, found.start, found.end)
    if phrased.quoted or not phrased.answered or not says(phrased.text, span.text):
        phrased = replace(quoted(span, ordered), unsupported=phrased.unsupported, left_out=phrased.left_out)
    return replace(phrased, span=span, no_answer_score=found.no_answer_score)


def says(text: str, span: str) -> bool:
    """Whether an answer's text has the span's words, one after another."""
    return f" {normalised(span)} " in f" {normalised(text)} "


def quoted(span: Citation, hits: Sequence[Hit]) -> GroundedAnswer:
    """The span with the sentence around it, as the answer."""
    passage = hits[span.number - 1].passage
    start, end = span.start - passage.place.start, span.end - passage.place.start
    around = [place for place in sentences(passage.text) if place[0] < end and place[1] > start]
    first, last = min([start, *(place[0] for place in around)]), max([end, *(place[1] for place in around)])
    citation = grounded.cited(span.number, passage, first, last)
    said = " ".join(citation.text.split())
    return GroundedAnswer(f"“{said}” [{span.number}]", True, (citation,), quoted=True, hits=tuple(hits))


def rerank(reader: Reader | None, question: str, hits: Sequence[Hit], weight: float = WEIGHT) -> list[Hit]:
    """The first `DEPTH` hits in a new order: by the search's score and by how sure the reader is of each.

    Scores become shares of the best one's, from 0 to 1, and up to `weight` more for what the reader is sure of.
    """
    if len(hits) < 2 or hits[0].score <= 0 or reader is None or not reader.knows(question):
        return list(hits)
    shares = np.array([hit.score for hit in hits]) / hits[0].score
    views = [view(hit.passage) for hit in hits[:DEPTH]]
    found = reader.relevance(question, [one.text for one in views], [one.unsaid for one in views])
    shares[:DEPTH] += weight / (1 + np.exp((SURE - found) / STEP))
    ranked = [Hit(hit.passage, float(share)) for hit, share in zip(hits, shares, strict=True)]
    return sorted(ranked, key=lambda hit: (-hit.score, hit.passage.id))
