"""Trained systems at work: a reply with what it was read from, and how right the replies to held-out questions are.

No torch is imported until a system is opened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.errors import MissingDependencyError, OctavoError
from octavo.metrics.answers import exact_match, token_f1
from octavo.progress import track
from octavo.retrieve.systems.passages import Passage, read_question_set

if TYPE_CHECKING:
    from octavo.retrieve.systems.torch_asking import Asking


@dataclass(frozen=True)
class Read:
    """A passage and its share of the answer: RAG's p(z|x), or of Fusion-in-Decoder's cross-attention."""

    number: int
    title: str
    text: str
    weight: float


@dataclass(frozen=True)
class Reply:
    """log_prob: of the answer with its end."""

    text: str
    log_prob: float
    passages: tuple[Read, ...]


@dataclass(frozen=True)
class Scores:
    """In percent, over held-out questions. recall: a passage that holds an answer was read; first: it was the first."""

    count: int
    exact: float
    f1: float
    recall: float
    first: float
    passages: int


def open_system(folder: Path, system: str, *, passages: int | None = None, beams: int | None = None) -> TrainedSystem:
    """Open a run's model; passages, beams: in place of the recipe's.

    Raises OctavoError for a model of another system, MissingDependencyError without torch.
    """
    try:
        from octavo.retrieve.systems.torch_asking import load_asking
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingDependencyError("this system needs torch: pip install 'octavo[torch]'") from error
    model = load_asking(folder)
    if model.settings.system != system:
        raise OctavoError(f"{folder} is of {model.settings.system}; use `octavo {model.settings.system}`")
    own = model.settings
    model.settings = replace(own, passages=passages or own.passages, beams=beams or own.beams)
    return TrainedSystem(model)


@dataclass(frozen=True)
class TrainedSystem:
    """A system of either kind, ready to answer."""

    model: Asking

    def answer(self, question: str) -> Reply:
        """The likeliest answer, and each passage's share in it."""
        if self.model.settings.system == "rag":
            from octavo.retrieve.systems.torch_rag import answer
        else:
            from octavo.retrieve.systems.torch_fid import answer

        best, weights, places = answer(self.model, question)
        return Reply(self.model.text(best.ids), best.log_prob, _read(self.model.passages, places, weights.tolist()))


def evaluate(system: TrainedSystem, data: Path, *, limit: int | None = None) -> Scores:
    """Answer the questions that were held out of a run's data, or of other data as much.

    Raises OctavoError where none were held out.
    """
    settings = system.model.settings
    questions = read_question_set(data, words=settings.passage_words, held_out=settings.held_out)
    asked = questions.held_out[:limit]
    if not asked:
        raise OctavoError(f"no question of {data} was held out; train with data.held_out over 0")
    rows = []
    with track(len(asked), "Answering", unit="questions") as work:
        for question in work.each(asked):
            reply = system.answer(question.text)
            golds = {questions.passages[number] for number in question.gold}
            found = [Passage(read.title, read.text) in golds for read in reply.passages]
            answers = question.answers
            rows.append((exact_match(reply.text, answers), token_f1(reply.text, answers), any(found), found[0]))
    exact, f1, recall, first = (100 * sum(column) / len(rows) for column in zip(*rows, strict=True))
    return Scores(len(rows), exact, f1, recall, first, settings.passages)


def _read(passages: tuple[Passage, ...], places: list[int], weights: list[float]) -> tuple[Read, ...]:
    return tuple(
        Read(place, passages[place].title, passages[place].text, weight)
        for place, weight in zip(places, weights, strict=True)
    )
