"""Questions with a text that answers them or does not, from files in the layouts of SQuAD and of open questions.

Sources: Rajpurkar, Jia and Liang 2018 (arXiv 1806.03822); Kwiatkowski et al. 2019 for open questions.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import FormatError, OctavoError, nearest
from octavo.train.reading.recipe import QuestionFiles


@dataclass(frozen=True)
class Question:
    """article: what the text is a part of. golds: (start, text) of each answer in the text; none: it has no answer."""

    id: str
    article: str
    text: str
    context: str
    golds: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Files:
    """Questions of a recipe's files, for training and for validation, and the checksum of all files."""

    training: tuple[Question, ...]
    validation: tuple[Question, ...]
    sha256: str

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(article, text) of the training part, each once, in a fixed order."""
        return sorted({(question.article, question.context) for question in self.training})


def find_files(data: QuestionFiles, beside: Path) -> Path:
    """The folder of the files. Raises OctavoError that says where it was sought and what is missing."""
    given = Path(data.path).expanduser()
    places = list(dict.fromkeys((beside / given, given)))
    for place in places:
        if all((place / name).is_file() for name in data.files):
            return place
    sought = " and ".join(str(place) for place in places)
    origin = f"; get them from {data.source}" if data.source else ""
    raise OctavoError(
        f"{', '.join(data.files)} are not all in {sought}{origin}, or name another folder with --data FOLDER",
        param="data.path",
    )


def read_files(folder: Path, data: QuestionFiles) -> Files:
    """All questions, split by article. Raises OctavoError for an article to hold out that is not there."""
    digest = hashlib.sha256()
    questions: list[Question] = []
    for name in data.files:
        digest.update((folder / name).read_bytes())
        questions += read_questions(folder / name)
    articles = {question.article for question in questions}
    for article in data.held_out:
        if article not in articles:
            raise OctavoError(
                f"data.held_out names {article!r}, which no file has{nearest(article, articles)}", param="data.held_out"
            )
    kept = tuple(
        question
        for question in questions
        if question.article not in data.held_out and part_of(question.article, data.parts) != data.left_out
    )
    held = tuple(question for question in questions if question.article in data.held_out)
    if not kept:
        raise OctavoError("data.held_out leaves no article to train on", param="data.held_out")
    return Files(kept, held, digest.hexdigest())


def part_of(article: str, parts: int) -> int:
    """The part, from 0, that an article falls into by its title."""
    return zlib.crc32(article.encode()) % parts


def read_questions(path: Path) -> list[Question]:
    """The questions of a file, in its order: `.json` in SQuAD's layout, `.jsonl` of open questions; either as .gz.

    An open question is kept where one of its answers stands in its passage, word for word.
    Raises OctavoError for a file that cannot be read, FormatError for one of neither layout.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        if path.name.removesuffix(".gz").endswith(".jsonl"):
            return list(_open_questions(json.loads(line) for line in text.splitlines() if line.strip()))
        return list(_squad(json.loads(text)))
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror or error}", param="data.files") from None
    except (ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
        raise FormatError(f"{path} holds no questions in SQuAD's layout: {error!r}", param="data.files") from None


def _squad(tree: Mapping[str, Any]) -> Iterator[Question]:
    for article in tree["data"]:
        for paragraph in article["paragraphs"]:
            context = paragraph["context"]
            for asked in paragraph["qas"]:
                golds = [] if asked.get("is_impossible") else asked["answers"]
                places = ((int(gold["answer_start"]), gold["text"]) for gold in golds)
                found = tuple(dict.fromkeys((start, text) for start, text in places if context.startswith(text, start)))
                if golds and not found:
                    raise ValueError(f"no answer of question {asked['id']} stands where it says")
                yield Question(str(asked["id"]), article["title"], asked["question"], context, found)


def _open_questions(rows: Iterator[Mapping[str, Any]]) -> Iterator[Question]:
    for number, row in enumerate(rows):
        passage = row["passage"]
        golds = [(passage.find(answer), answer) for answer in row["answers"]]
        found = tuple((start, answer) for start, answer in golds if start >= 0 and answer)
        if found:
            yield Question(f"open-{number}", row["title"], row["question"], passage, found)
