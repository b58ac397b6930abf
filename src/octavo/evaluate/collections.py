"""Collections to measure retrieval and answers on: documents, questions, judgements, gold answers.

Two layouts are read as they are published: BEIR's (Thakur et al. 2021: corpus.jsonl, queries.jsonl, qrels.tsv or
qrels/test.tsv) and SQuAD's JSON, where every paragraph is a document and a question's own paragraph the relevant one.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from octavo.errors import FormatError, OctavoError

QRELS = ("qrels.tsv", "qrels/test.tsv", "qrels/dev.tsv", "qrels/train.tsv")
"""Where judgements may lie; the first that is there is taken."""


@dataclass(frozen=True)
class Collection:
    """documents: name to (title, text). queries: name to text. judgements: query to its documents' grades, above 0
    where relevant. answers: query to its gold answers, none where the documents do not answer it; None: no golds.
    own: query to the document it was asked of, where that is known.
    """

    name: str
    documents: Mapping[str, tuple[str, str]]
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]
    answers: Mapping[str, Sequence[str]] | None = None
    own: Mapping[str, str] | None = None

    def first(self, limit: int | None) -> Collection:
        """The same documents with the first `limit` questions; None: all."""
        queries = dict(islice(self.queries.items(), limit))
        answers = None if self.answers is None else {name: self.answers[name] for name in queries}
        own = None if self.own is None else {name: self.own[name] for name in queries}
        return replace(self, queries=queries, answers=answers, own=own)


def read_collection(path: Path) -> Collection:
    """A collection from a folder in BEIR's layout, or a file in SQuAD's. Files may be gzipped.

    Raises FormatError for what is neither, with what is missing.
    """
    if path.is_dir():
        return _beir(path)
    if not path.is_file():
        raise OctavoError(f"there is no collection at {path}; give a folder in BEIR's layout or SQuAD's JSON")
    try:
        return _squad(path, json.loads(_text(path)))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is not in SQuAD's layout: {type(error).__name__} {error}") from None


def _squad(path: Path, data: Any) -> Collection:
    documents: dict[str, tuple[str, str]] = {}
    queries: dict[str, str] = {}
    judgements: dict[str, dict[str, int]] = {}
    answers: dict[str, list[str]] = {}
    own: dict[str, str] = {}
    for article in data["data"]:
        title = str(article.get("title", "")).replace("_", " ")
        for number, paragraph in enumerate(article["paragraphs"]):
            name = f"{article.get('title', '')}/{number:03}"
            documents[name] = (title, paragraph["context"])
            for asked in paragraph["qas"]:
                golds = [] if asked.get("is_impossible") else [gold["text"] for gold in asked["answers"]]
                queries[asked["id"]], answers[asked["id"]], own[asked["id"]] = asked["question"], golds, name
                judgements[asked["id"]] = {name: 1} if golds else {}
    return Collection(path.name.split(".")[0], documents, queries, judgements, answers, own)


def _beir(folder: Path) -> Collection:
    corpus = {str(row["_id"]): (str(row.get("title") or ""), str(row["text"])) for row in _rows(folder, "corpus.jsonl")}
    asked = {str(row["_id"]): str(row["text"]) for row in _rows(folder, "queries.jsonl")}
    qrels = next((folder / name for name in QRELS if (folder / name).exists()), None)
    if qrels is None:
        raise FormatError(f"{folder} has no judgements; in BEIR's layout they are {' or '.join(QRELS[:2])}")
    judgements: dict[str, dict[str, int]] = {}
    for line in _text(qrels).splitlines()[1:]:
        parts = line.split("\t")
        if len(parts) != 3 or not parts[2].lstrip("-").isdigit():
            raise FormatError(f"{qrels} has a line that is not query, document and grade: {line[:80]!r}")
        judgements.setdefault(parts[0], {})[parts[1]] = int(parts[2])
    queries = {
        name: text for name, text in asked.items() if any(grade > 0 for grade in judgements.get(name, {}).values())
    }
    if not queries:
        raise FormatError(f"{qrels} judges none of the questions of {folder}")
    return Collection(folder.name, corpus, queries, judgements)


def _rows(folder: Path, name: str) -> Iterator[Any]:
    path = next((folder / found for found in (name, f"{name}.gz") if (folder / found).exists()), None)
    if path is None:
        raise FormatError(f"{folder} has no {name}, which BEIR's layout asks for")
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
            if "_id" not in row or "text" not in row:
                raise ValueError("a row has _id and text")
        except (ValueError, TypeError) as error:
            raise FormatError(f"{path} line {number}: {error}") from None
        yield row


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read: {error}") from None
