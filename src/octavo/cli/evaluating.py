"""`octavo eval rag`: ways of finding passages, and answers from them, measured on a collection in one table each."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import arguments as given

if TYPE_CHECKING:
    from octavo.evaluate.collections import Collection
    from octavo.evaluate.rag import Answers, Rank, Ranking, Said
    from octavo.retrieve.reader import Reader
    from octavo.retrieve.search import Search
    from octavo.retrieve.stores.store import Hit

evaluations = typer.Typer(help="Measure systems on collections of questions.")


@evaluations.callback()
def eval_() -> None:
    """Measure systems on collections of questions."""


@evaluations.command("rag")
def rag(
    collection: Annotated[
        Path, typer.Argument(metavar="COLLECTION", help="A folder in BEIR's layout, or questions in SQuAD's JSON.")
    ],
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="MODEL", help="Of dense search; none: words alone.")
    ] = "",
    reranker: Annotated[
        str | None, typer.Option("--reranker", metavar="MODEL", help="A cross-encoder that ranks the first 20 anew.")
    ] = None,
    hyde: Annotated[
        str | None, typer.Option("--hyde", metavar="MODEL", help="Searches with answers that this model makes up.")
    ] = None,
    reader: Annotated[bool, typer.Option("--reader", help="Rank passages by the reader, and answer with it.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Answer with this chat model.")
    ] = None,
    passages: Annotated[int, typer.Option("--passages", "-k", metavar="N", min=1, help="That are answered from.")] = 4,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N questions.")
    ] = None,
    as_json: given.AsJson = False,
) -> None:
    """Which way finds the right passages, and how right are the answers?

    Rankings are scored over the questions that have a relevant document. Answers
    (with --reader or --model, where the collection has gold answers) are scored end to end, and
    questions without an answer apart; the last row reads each question's own passage, found by
    no search. Chinese and Japanese are scored over characters.

    Examples:

      octavo eval rag cranfield/

      octavo eval rag squad2-dev.json.gz --reader --limit 1000

      octavo eval rag drcd-dev.json.gz --reader --encoder none

      octavo eval rag cranfield/ --hyde smollm2-135m-instruct --limit 20 --json
    """
    from octavo.evaluate.collections import read_collection
    from octavo.evaluate.rag import fill
    from octavo.retrieve.reader import Reader
    from octavo.retrieve.search import Search

    whole = read_collection(collection)
    asked = whole.first(limit)
    loaded = _encoder(encoder)
    search = Search(fill(whole, loaded), loaded)
    reads = Reader.load() if reader else None
    try:
        ranks = _ranks(search, reranker, hyde, reads)
        rankings = [_ranking(asked, name, rank) for name, rank in ranks.items()]
        answers = _answers(asked, ranks, reads, model, passages)
    finally:
        search.store.close()
    if as_json:
        rows = {"rankings": [*map(dataclasses.asdict, rankings)], "answers": [*map(dataclasses.asdict, answers)]}
        typer.echo(json.dumps({"collection": whole.name, "questions": len(asked.queries), **rows}))
        return
    typer.echo(f"{whole.name}: {len(whole.documents):,} documents, {len(asked.queries):,} questions")
    _print_rankings(rankings)
    if answers:
        _print_answers(answers)


def _encoder(name: str) -> Any:
    from octavo.retrieve.library import DEFAULT_ENCODER, NO_ENCODER

    return None if name == NO_ENCODER else given.load_encoder(name or DEFAULT_ENCODER)


def _ranks(search: Search, reranker: str | None, hyde: str | None, reader: Reader | None) -> dict[str, Rank]:
    """The ways of finding that were asked for."""
    from octavo.errors import OctavoError
    from octavo.evaluate.rag import hypothetical, reranked, retrievers
    from octavo.retrieve.reader import rerank

    ranks = retrievers(search)
    best = ranks.get("hybrid", ranks["words"])
    if reranker is not None:
        ranks["reranked"] = reranked(best, _cross_encoder(reranker))
    if reader is not None:
        ranks["reader"] = reranked(best, partial(rerank, reader))
    if hyde is not None:
        if search.encoder is None:
            raise OctavoError("--hyde searches by meaning; give it an --encoder")
        from octavo.generate.local import load

        ranks["hyde"] = hypothetical(search, load(given.obtain(hyde)))
    return ranks


def _cross_encoder(reference: str) -> Callable[[str, Sequence[Hit]], list[Hit]]:
    from octavo.generate.rerank import Reranker
    from octavo.retrieve.stores.store import Hit

    loaded, depth = Reranker.load(given.obtain(reference)), 20

    def relevance(question: str, hits: Sequence[Hit]) -> list[Hit]:
        head = hits[:depth]
        scores = loaded.score(question, [f"{hit.passage.place.context}\n{hit.passage.text}" for hit in head])
        order = sorted(range(len(head)), key=lambda at: (-scores[at], at))
        return [*(Hit(head[at].passage, float(scores[at])) for at in order), *hits[depth:]]

    return relevance


def _ranking(collection: Collection, name: str, rank: Rank) -> Ranking:
    from octavo.evaluate.rag import measure_ranking
    from octavo.progress import track

    with track(len(collection.queries), f"Ranking by {name}", unit="questions") as work:
        return measure_ranking(collection, name, rank, work)


def _answers(
    collection: Collection, ranks: dict[str, Rank], reader: Reader | None, model: str | None, passages: int
) -> list[Answers]:
    """Answers by each answerer from what words, both ways fused and the reader find, and from the right passage."""
    from octavo.errors import OctavoError
    from octavo.evaluate.rag import measure_answers, own_passages
    from octavo.progress import track

    if collection.answers is None:
        if model:
            raise OctavoError(f"{collection.name} has no gold answers, so answers cannot be scored; leave out --model")
        return []
    answerers = {**({"reader": _by_reader(reader)} if reader else {}), **({model: _by_model(model)} if model else {})}
    ways: dict[str, Rank] = {name: ranks[name] for name in ("words", "hybrid", "reader") if name in ranks}
    own = own_passages(collection)
    if own is not None:
        ways["its own"] = own
    rows = []
    for answerer, answer in answerers.items():
        for name, rank in ways.items():
            with track(len(collection.queries), f"Answering by {answerer} from {name}", unit="questions") as work:
                rows.append(measure_answers(collection, name, rank, answerer, answer, passages, work))
    return rows


def _by_reader(reader: Reader) -> Callable[[str, Sequence[Hit]], Said]:
    from octavo.evaluate.rag import Said
    from octavo.retrieve.reader import read

    def answer(question: str, hits: Sequence[Hit]) -> Said:
        if not hits:
            return Said("", "", math.inf, (), 1.0)
        found = read(reader, question, hits)
        cited = ((hits[found.passage].passage.document, found.text),) if found.answered else ()
        return Said(found.text if found.answered else "", found.text, found.no_answer_score, cited, 1.0)

    return answer


def _by_model(reference: str) -> Callable[[str, Sequence[Hit]], Said]:
    from octavo.evaluate.rag import grounded_said
    from octavo.generate.local import load
    from octavo.retrieve.grounded import answer

    loaded = load(given.obtain(reference))
    return lambda question, hits: grounded_said(answer(loaded, question, hits))


def _print_rankings(rankings: Sequence[Ranking]) -> None:
    from octavo.cli.tables import print_table

    head = ("retriever", "nDCG@10", "MRR@10", "MAP", "recall@1", "recall@5", "recall@100", "ms")
    rows = [
        (row[0], *(f"{value:.3f}" for value in row[1:-1]), f"{1000 * row[-1]:.1f}") for row in map(_values, rankings)
    ]
    print_table(head, rows)


def _print_answers(answers: Sequence[Answers]) -> None:
    from octavo.cli.tables import print_table

    typer.echo("")
    head = ("retriever", "answerer", "EM", "F1", "HasAns F1", "NoAns", "refused", "best F1", "citations", "faithful")
    rows = []
    for row in answers:
        scores = row.scores
        right = (scores.exact, scores.f1, scores.has_answer_f1, scores.no_answer, row.refused, row.best_f1)
        figures = (*right, row.citation_precision, row.faithfulness)
        rows.append((row.retriever, row.answerer, *("-" if value is None else f"{value:.1f}" for value in figures)))
    print_table(head, rows)


def _values(row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, field.name) for field in dataclasses.fields(row))
