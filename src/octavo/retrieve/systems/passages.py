"""Questions with the passages that are to answer them, as RAG and Fusion-in-Decoder are trained and measured on.

A file in SQuAD's layout gives both: its paragraphs, cut into passages of about 100 words, are what is searched, and
its questions are asked of all of them together. Whole articles are held out, so that nothing of them is ever a target;
their passages stay in the index, where a model that retrieves finds what it was not trained on.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, OctavoError

Vectors = NDArray[np.float32]
PASSAGES, VECTORS = "passages.jsonl", "vectors.npy"


@dataclass(frozen=True)
class Passage:
    """title: of the article."""

    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """gold: numbers of the passages of its paragraph that hold an answer; none where it was cut apart."""

    text: str
    answers: tuple[str, ...]
    gold: frozenset[int]


@dataclass(frozen=True)
class QuestionSet:
    """Passages, and the questions for training and those of the articles that were held out."""

    passages: tuple[Passage, ...]
    training: tuple[Question, ...]
    held_out: tuple[Question, ...]


def read_question_set(path: Path, *, words: int, held_out: float) -> QuestionSet:
    """A `.json` or `.json.gz` in SQuAD's layout; questions without an answer are left out.

    words: of a passage. held_out: the share of articles, the last ones. Raises OctavoError for a file that cannot be
    read or has too few articles, FormatError for another layout.
    """
    articles = _articles(path)
    kept = len(articles) - max(1, round(len(articles) * held_out)) if held_out else len(articles)
    if kept < 1:
        raise OctavoError(f"{path} has {len(articles)} articles, too few to hold {held_out:.0%} of them out")
    passages: dict[Passage, int] = {}
    parts: tuple[list[Question], list[Question]] = ([], [])
    try:
        for number, article in enumerate(articles):
            for paragraph in article["paragraphs"]:
                pieces = [Passage(article["title"], text) for text in cut(paragraph["context"], words)]
                places = {passages.setdefault(piece, len(passages)): piece.text for piece in pieces}
                parts[number >= kept].extend(_questions(paragraph["qas"], places))
    except (KeyError, TypeError) as error:
        raise FormatError(f"{path} is not in SQuAD's layout: {error!r}") from None
    if not parts[0]:
        raise OctavoError(f"{path} has no question with an answer to train on")
    return QuestionSet(tuple(passages), tuple(parts[0]), tuple(parts[1]))


def cut(text: str, words: int) -> list[str]:
    """A text in pieces of at most so many words, as even as can be, each as it stands in the text."""
    places = [match.span() for match in re.finditer(r"\S+", text)]
    if not places:
        return []
    count = -(-len(places) // words)
    edges = [len(places) * part // count for part in range(count + 1)]
    return [text[places[start][0] : places[end - 1][1]] for start, end in pairwise(edges)]


def save_index(folder: Path, passages: Sequence[Passage], vectors: Vectors) -> None:
    """Write passages and their vectors, (passages, dimensions), into a folder."""
    with (folder / PASSAGES).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(passage), ensure_ascii=False) + "\n" for passage in passages)
    np.save(folder / VECTORS, vectors, allow_pickle=False)


def load_index(folder: Path) -> tuple[tuple[Passage, ...], Vectors]:
    """What `save_index` wrote. Raises FormatError where it is damaged."""
    try:
        lines = (folder / PASSAGES).read_text(encoding="utf-8").splitlines()
        passages = tuple(Passage(**json.loads(line)) for line in lines)
        vectors = np.load(folder / VECTORS, allow_pickle=False)
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(f"{folder} holds no index of passages that can be read: {error}") from None
    if vectors.ndim != 2 or len(vectors) != len(passages):
        raise FormatError(f"{folder} has {len(passages)} passages and vectors of the shape {vectors.shape}")
    return passages, vectors


def _articles(path: Path) -> list[Mapping[str, Any]]:
    try:
        content = path.read_bytes()
        tree = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        found: list[Mapping[str, Any]] = list(tree["data"])
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror or error}", param="data.path") from None
    except (ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise FormatError(f"{path} is not in SQuAD's layout: {error!r}", param="data.path") from None
    return found


def _questions(asked: Sequence[Mapping[str, Any]], places: Mapping[int, str]) -> list[Question]:
    found = []
    for one in asked:
        answers = tuple(dict.fromkeys(answer["text"] for answer in one["answers"]))
        if answers and not one.get("is_impossible"):
            gold = frozenset(at for at, text in places.items() if any(answer in text for answer in answers))
            found.append(Question(one["question"], answers, gold))
    return found
