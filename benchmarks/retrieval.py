"""Claim: hybrid search ranks at least as well as word search and dense search each alone.

Two collections, whole, in one table: the SQuAD 2.0 dev paragraphs (does a question's paragraph come first, or among the
first five?) and Cranfield (nDCG@10 over binary judgements). Scores are computed by `octavo.metrics`.

    python benchmarks/retrieval.py DATA [--encoder MODEL] [--reader] [--split dev|train] [--json]

DATA holds qa/squad2-dev.json.gz and retrieval/cranfield. --split train measures on the training articles: choose there.
--reader adds the last ranking with its best ten ranked anew by the reader that comes with Octavo, which was trained on
most of the training articles.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.metrics.ranking import ndcg, recall, reciprocal_rank
from octavo.retrieve.reader import Reader, rerank
from octavo.retrieve.search import Mode, Search, TextEncoder
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Place, Source, VectorSpace


@dataclass(frozen=True)
class Collection:
    """documents: name to (context, text). queries: name to text. judgements: query to its documents' grades."""

    name: str
    documents: Mapping[str, tuple[str, str]]
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]


def squad(data: Path, split: str) -> Collection:
    """Each paragraph a document; a question's own paragraph is the relevant one, answerable or not."""
    documents, queries, judgements = {}, {}, {}
    for article in json.loads(gzip.decompress((data / f"qa/squad2-{split}.json.gz").read_bytes()))["data"]:
        for number, paragraph in enumerate(article["paragraphs"]):
            name = f"{article['title']}/{number:03}"
            documents[name] = (article["title"].replace("_", " "), paragraph["context"])
            for question in paragraph["qas"]:
                if question["answers"]:
                    queries[question["id"]], judgements[question["id"]] = question["question"], {name: 1}
    return Collection(f"SQuAD 2.0 {split}", documents, queries, judgements)


def cranfield(data: Path) -> Collection:
    """Abstracts with their titles; every grade above 0 is relevant."""
    folder = data / "retrieval/cranfield"
    rows = _lines(gzip.decompress((folder / "corpus.jsonl.gz").read_bytes()).decode())
    documents = {row["_id"]: (row["title"], row["text"]) for row in rows}
    queries = {row["_id"]: row["text"] for row in _lines((folder / "queries.jsonl").read_text())}
    judgements: dict[str, dict[str, int]] = {name: {} for name in queries}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judgements[query][document] = int(int(grade) > 0)
    return Collection("Cranfield", documents, queries, judgements)


def measure(collection: Collection, encoder: TextEncoder | None, reader: Reader | None) -> dict[str, dict[str, float]]:
    """Every measure of every mode."""
    store = SqliteStore(None, None if encoder is None else VectorSpace("the encoder", encoder.dimensions))
    fill(store, collection, encoder)
    search = Search(store, encoder)
    modes: tuple[Mode, ...] = ("words",) if encoder is None else ("words", "vectors", "rrf", "hybrid")
    asked = list(collection.queries.values())
    vectors = [None] * len(asked) if encoder is None else list(encoder.embed(asked, kind="query"))
    table = {mode: run(collection, search, mode, vectors) for mode in modes}
    if reader is not None:
        table["reader"] = run(collection, search, modes[-1], vectors, reader)
    store.close()
    return table


def fill(store: SqliteStore, collection: Collection, encoder: TextEncoder | None) -> None:
    """Each document is one passage."""
    filled = {name: parts for name, parts in collection.documents.items() if parts[1]}
    vectors = (
        None if encoder is None else encoder.embed(["\n".join(parts) for parts in filled.values()], kind="passage")
    )
    for row, (name, (context, text)) in enumerate(filled.items()):
        place = Place(0, len(text), context=context)
        store.put(Source(name, text, ""), [place], None if vectors is None else vectors[row : row + 1])


def run(
    collection: Collection, search: Search, mode: Mode, vectors: Sequence[Any], reader: Reader | None = None
) -> dict[str, float]:
    """Means over the queries, and the median time of one without making its vector."""
    rows, seconds = [], []
    for (name, query), vector in zip(collection.queries.items(), vectors, strict=True):
        start = time.perf_counter()
        hits = rerank(reader, query, search.find_with(None if mode == "words" else vector, query, 100, mode))
        seconds.append(time.perf_counter() - start)
        ranking = [hit.passage.document for hit in hits]
        judged = collection.judgements[name]
        rows.append(
            (
                ndcg(ranking, judged, 10),
                recall(ranking, judged, 1),
                recall(ranking, judged, 5),
                recall(ranking, judged, 100),
                reciprocal_rank(ranking, judged, 10),
            )
        )
    names = ("nDCG@10", "recall@1", "recall@5", "recall@100", "MRR@10")
    means = {name: statistics.fmean(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return {**means, "ms a query": 1000 * statistics.median(seconds)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--reader", action="store_true")
    parser.add_argument("--split", default="dev", choices=("dev", "train"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    encoder = _load(arguments.encoder)
    reader = Reader.load() if arguments.reader else None
    tables = {
        collection.name: measure(collection, encoder, reader)
        for collection in (squad(arguments.data, arguments.split), cranfield(arguments.data))
    }
    if arguments.json:
        print(json.dumps(tables))
        return
    for name, table in tables.items():
        print(f"\n{name:<18}" + "".join(f"{column:>12}" for column in next(iter(table.values()))))
        for mode, values in table.items():
            print(f"  {mode:<16}" + "".join(f"{value:>12.3f}" for value in values.values()))


def _load(reference: str | None) -> TextEncoder | None:
    if reference is None:
        return None
    from octavo.generate.embed import Embedder

    encoder: TextEncoder = Embedder.load(reference)
    return encoder


def _lines(text: str) -> Iterable[dict[str, Any]]:
    return (json.loads(line) for line in text.splitlines())


if __name__ == "__main__":
    main()
