"""A reader over search and a chat model: the span decides whether there is an answer, the model only how it is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from octavo.generate.scripted import ScriptedModel
from octavo.generate.tasks.reading import Answer
from octavo.retrieve.grounded import REFUSAL
from octavo.retrieve.reader import BEHIND, DEPTH, answer, read, rerank, says
from octavo.retrieve.stores.store import Hit, Passage, Place

GEESE = "Geese fly south in autumn. They rest on lakes."
DUCKS = "Mallards are ducks.\nMallards eat weed and snails. A hen lays 13 eggs."


class Marker:
    """A reader that finds one text, in the first passage that has it."""

    def __init__(self, span: str, answered: bool = True) -> None:
        self.span, self.answered = span, answered

    def knows(self, text: str) -> bool:
        return text.isascii()

    def answer(self, question: str, passages: Sequence[str], against: Any = None, unsaid: Any = None) -> Answer:
        number = next(index for index, passage in enumerate(passages) if self.span in passage)
        start = passages[number].index(self.span)
        return Answer(self.span, start, start + len(self.span), 3.0, -2.0, number, self.answered)

    def relevance(self, question: str, passages: Sequence[str], unsaid: Any = None) -> Any:
        return np.array([20.0 if self.span in passage else -20.0 for passage in passages], np.float32)


def hits() -> list[Hit]:
    return [
        Hit(Passage(name, "abc", Place(100, 100 + len(text), line=3), text), score)
        for name, text, score in (("geese.txt", GEESE, 0.9), ("ducks.md", DUCKS, 0.5))
    ]


def ask(said: str, reader: Any, question: str = "What do mallards eat?") -> Any:
    return answer(ScriptedModel([said]), question, hits(), reader)


def test_a_phrase_that_says_the_span_stays_and_cites_its_passage() -> None:
    answered = ask("Mallards eat weed and snails.", Marker("weed and snails"))
    assert answered.text == "Mallards eat weed and snails. [1]" and not answered.quoted
    assert answered.citations[0].document == answered.span.document == "ducks.md"
    assert DUCKS[answered.span.start - 100 : answered.span.end - 100] == answered.span.text == "weed and snails"
    assert answered.no_answer_score == -2.0


@pytest.mark.parametrize("said", ["A hen lays 13 eggs.", "They eat gold.", REFUSAL, "", "Geese fly south in autumn."])
def test_what_does_not_say_the_span_is_replaced_by_its_sentence(said: str) -> None:
    answered = ask(said, Marker("weed and snails"))
    assert answered.text == "“Mallards eat weed and snails.” [1]" and answered.quoted and answered.answered
    (citation,) = answered.citations
    assert DUCKS[citation.start - 100 : citation.end - 100] == citation.text == "Mallards eat weed and snails."


def test_where_the_reader_finds_nothing_no_model_is_asked() -> None:
    model = ScriptedModel(["Weed."])
    answered = answer(model, "What do mallards eat?", hits(), Marker("weed", answered=False))  # type: ignore[arg-type]
    assert (answered.text, answered.answered, model.requests) == (REFUSAL, False, [])
    assert answered.no_answer_score == -2.0


def test_a_question_that_the_reader_cannot_read_is_answered_without_it() -> None:
    answered = ask("Mallards eat weed and snails.", Marker("geese"), "鴨子吃 Mallards eat 什麼？")
    assert answered.span is None


def test_a_span_is_said_word_for_word() -> None:
    assert says("They eat weed and snails.", "the weed and snails")
    assert not says("They eat seaweed and snails.", "weed and snails")


class Sure(Marker):
    """Keeps what speaks against each passage."""

    def answer(self, question: str, passages: Sequence[str], against: Any = None, unsaid: Any = None) -> Answer:
        self.against = against
        return super().answer(question, passages, against)


def test_an_answer_from_a_passage_far_behind_the_best_must_be_surer() -> None:
    sure = Sure("weed")
    ask("Weed.", sure)
    assert sure.against == pytest.approx([0, BEHIND * (1 - 0.5 / 0.9)])
    read(sure, "What?", [Hit(hit.passage, 0.0) for hit in hits()])  # type: ignore[arg-type]
    assert sure.against == [0, 0]


def test_what_is_not_ranked_anew_stays_behind() -> None:
    many = [Hit(hits()[0].passage, 30.0 - at) for at in range(DEPTH + 5)]
    found = rerank(Marker("geese"), "What?", [*many, Hit(hits()[1].passage, 1.0)])  # type: ignore[arg-type]
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True) and scores[0] == pytest.approx(1, abs=1e-3)
    assert scores[-2:] == pytest.approx([16 / 30, 1 / 30]) and found[-1].passage.document == "ducks.md"


def test_passages_are_ranked_by_both_scores() -> None:
    def order(span: str, weight: float) -> list[str]:
        return [hit.passage.document for hit in rerank(Marker(span), "What?", hits(), weight)]  # type: ignore[arg-type]

    assert order("weed", 0.5) == ["ducks.md", "geese.txt"]
    assert order("weed", 0.4) == ["geese.txt", "ducks.md"]
    assert order("nowhere", 9.0) == ["geese.txt", "ducks.md"]  # where no passage has an answer the search decides
    assert rerank(Marker("weed"), "什麼", hits(), 0.9) == hits()  # type: ignore[arg-type]
