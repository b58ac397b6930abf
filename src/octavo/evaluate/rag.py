"""`octavo eval rag`: which way of finding passages finds the right ones, and how right the answers from them are.

Rankings by the measures of trec_eval, answers by SQuAD's; both are `octavo.metrics`. A citation is right where the
cited passage is judged relevant and what is cited of it holds a gold answer; faithfulness is the share of what was said
that the passages support.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from octavo.evaluate.collections import Collection
from octavo.generate.lm import LanguageModel
from octavo.metrics.answers import (
    AnswerScores,
    apart,
    best_threshold,
    normalised,
    score_answers,
    token_f1,
    unspaced,
)
from octavo.metrics.ranking import average_precision, ndcg, recall, reciprocal_rank
from octavo.progress import Track, track
from octavo.retrieve.grounded import GroundedAnswer
from octavo.retrieve.search import Mode, Search, TextEncoder
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Hit, Passage, Place, Source, VectorSpace

DEPTH = 100
BATCH = 256
Rank = Callable[[str], list[Hit]]
"""A way of finding: a question to its passages, best first."""


Relevance = Callable[[str, Sequence[Hit]], list[Hit]]
"""What ranks a question's passages anew: a reranker, or a reader by its own judgement of them."""


@dataclass(frozen=True)
class Ranking:
    """Means over the questions that have a relevant document. seconds: the median of a question's."""

    retriever: str
    ndcg_10: float
    mrr_10: float
    average_precision: float
    recall_1: float
    recall_5: float
    recall_100: float
    seconds: float


@dataclass(frozen=True)
class Said:
    """An answer to one question. text: empty where it says that there is none, and so is `withheld` always; where that
    has what would have been said. no_answer: how sure it is that there is none, where it says. cited: the documents and
    the characters of them that it cites. faithful: the share of what was said that the passages support.
    """

    text: str
    withheld: str
    no_answer: float | None
    cited: tuple[tuple[str, str], ...]
    faithful: float


@dataclass(frozen=True)
class Answers:
    """How right the answers were. citation_precision: None where nothing was cited. best_f1: with the threshold on
    `no_answer` that suits these very questions best, None where the answerer is never unsure.
    """

    retriever: str
    answerer: str
    scores: AnswerScores
    refused: float
    citation_precision: float | None
    faithfulness: float
    best_f1: float | None


def fill(collection: Collection, encoder: TextEncoder | None, *, show: bool = True) -> SqliteStore:
    """A store in memory where each document of a collection is one passage. Empty documents are left out."""
    store = SqliteStore(None, None if encoder is None else VectorSpace("the encoder", encoder.dimensions))
    rows = [(name, title, text) for name, (title, text) in collection.documents.items() if text.strip()]
    with track(len(rows), f"Indexing {collection.name}", unit="documents", show=show) as work:
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            given = [f"{title}\n{text}" for _, title, text in part]
            vectors = None if encoder is None else encoder.embed(given, kind="passage")
            for row, (name, title, text) in enumerate(part):
                place = Place(0, len(text), context=title)
                store.put(Source(name, text, ""), [place], None if vectors is None else vectors[row : row + 1])
            work.advance(len(part))
    store.arrange(show=show)
    return store


def retrievers(search: Search) -> dict[str, Rank]:
    """The ways of finding that need nothing more than a store and its encoder."""
    modes: dict[str, Mode] = {"words": "words"}
    if search.encoder is not None:
        modes |= {"dense": "vectors", "rrf": "rrf", "hybrid": "hybrid"}
    return {name: partial(_found, search, mode) for name, mode in modes.items()}


def _found(search: Search, mode: Mode, question: str) -> list[Hit]:
    return search.find(question, DEPTH, mode=mode)


def own_passages(collection: Collection) -> Rank | None:
    """Each question's own passage and no other: what an answerer makes of a search that errs never. None: not known."""
    if collection.own is None:
        return None
    documents = {collection.queries[name]: document for name, document in collection.own.items()}

    def rank(question: str) -> list[Hit]:
        name = documents[question]
        title, text = collection.documents[name]
        return [Hit(Passage(name, "", Place(0, len(text), context=title), text), 1.0)]

    return rank


def reranked(rank: Rank, relevance: Relevance) -> Rank:
    """A way of finding whose passages are ranked anew."""
    return lambda question: relevance(question, rank(question))


def hypothetical(search: Search, model: LanguageModel, *, task: str = "question", samples: int = 8) -> Rank:
    """HyDE: by the vectors of answers that a model makes up, fused with words as hybrid search is."""
    from octavo.retrieve.hyde import hyde_vector, hypothetical_passages

    encoder = search.encoder
    assert encoder is not None, "HyDE searches by meaning"

    def rank(question: str) -> list[Hit]:
        made_up = hypothetical_passages(model, question, task=task, samples=samples, max_tokens=128)
        return search.find_with(hyde_vector(encoder, question, made_up), question, DEPTH, "vectors")

    return rank


def measure_ranking(collection: Collection, retriever: str, rank: Rank, work: Track | None = None) -> Ranking:
    """Every measure of one way of finding."""
    rows, seconds = [], []
    for name, question in collection.queries.items():
        judged = collection.judgements[name]
        if any(grade > 0 for grade in judged.values()):
            start = time.perf_counter()
            found = [hit.passage.document for hit in rank(question)]
            seconds.append(time.perf_counter() - start)
            rows.append(
                (
                    ndcg(found, {key: int(grade > 0) for key, grade in judged.items()}, 10),
                    reciprocal_rank(found, judged, 10),
                    average_precision(found, judged),
                    *(recall(found, judged, depth) for depth in (1, 5, 100)),
                )
            )
        if work is not None:
            work.advance(1)
    means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
    ndcg_10, mrr_10, precision, recall_1, recall_5, recall_100 = means
    middle = statistics.median(seconds)
    return Ranking(retriever, ndcg_10, mrr_10, precision, recall_1, recall_5, recall_100, middle)


def measure_answers(
    collection: Collection,
    retriever: str,
    rank: Rank,
    answerer: str,
    answer: Callable[[str, Sequence[Hit]], Said],
    passages: int,
    work: Track | None = None,
) -> Answers:
    """End to end: the answers from the first `passages` passages that a way of finding gives."""
    golds = collection.answers or {}
    words = apart if unspaced(list(collection.queries.values())) else str
    said: dict[str, Said] = {}
    for name, question in collection.queries.items():
        said[name] = answer(question, rank(question)[:passages])
        if work is not None:
            work.advance(1)
    judged = list(_judged(collection, said))
    wanted = {name: [words(gold) for gold in golds[name]] for name in said}
    unsure = {name: one.no_answer for name, one in said.items() if one.no_answer is not None}
    best = None
    if len(unsure) == len(said):
        f1 = {name: token_f1(words(one.withheld), wanted[name]) for name, one in said.items()}
        best = best_threshold(f1, unsure, golds)[0]
    return Answers(
        retriever,
        answerer,
        score_answers({name: words(one.text) for name, one in said.items()}, wanted),
        100 * statistics.fmean(not one.text for one in said.values()),
        100 * statistics.fmean(judged) if judged else None,
        100 * statistics.fmean(one.faithful for one in said.values()),
        best,
    )


def _judged(collection: Collection, said: Mapping[str, Said]) -> Iterator[bool]:
    """Whether each citation is of a relevant document and holds one of the gold answers."""
    assert collection.answers is not None, "only answers that can be judged are asked for"
    for name, one in said.items():
        for document, text in one.cited:
            relevant = collection.judgements[name].get(document, 0) > 0
            held = any(normalised(gold) in normalised(text) for gold in collection.answers[name])
            yield relevant and held


def grounded_said(answer: GroundedAnswer) -> Said:
    """What a grounded answer says, in the terms of the measures. A span is the answer where the reader marked one."""
    span = getattr(answer, "span", None)
    cited = tuple((citation.document, citation.text) for citation in answer.citations)
    said = len(answer.citations) + len(answer.unsupported)
    faithful = len(answer.citations) / said if said else 1.0
    text = "" if not answer.answered else span.text if span is not None else _bare(answer.text)
    return Said(text, text, getattr(answer, "no_answer_score", None), cited, faithful)


def _bare(text: str) -> str:
    """An answer without its marks and the quotation marks around it."""
    return re.sub(r"\s*\[\d+\]", "", text).strip("“” ")
