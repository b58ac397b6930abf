"""Annotated sentences from files: words, and where a file has them, parts of speech and entities. No torch here.

`.conllu` of Universal Dependencies (its words, and a column of parts of speech), and `.jsonl`, a sentence a line, in
the fields that `octavo ckip --json` prints.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octavo.errors import FormatError, OctavoError
from octavo.train.tagging.recipe import AnnotatedFiles

Task = Literal["ws", "pos", "ner"]
COLUMNS = {"upos": 3, "xpos": 4}


@dataclass(frozen=True)
class Sentence:
    """words: together its text. tags: of each; none where the file has none. entities: (start, end, type), characters;
    None where the file does not mark them."""

    words: tuple[str, ...]
    tags: tuple[str, ...] = ()
    entities: tuple[tuple[int, int, str], ...] | None = None

    @property
    def text(self) -> str:
        """The whole sentence."""
        return "".join(self.words)


@dataclass(frozen=True)
class Annotated:
    """Sentences of a recipe's files, for training and for validation, and the checksum of all files."""

    training: tuple[Sentence, ...]
    validation: tuple[Sentence, ...]
    sha256: str


def find_annotated(data: AnnotatedFiles, beside: Path) -> Path:
    """The folder of the files. Raises OctavoError that says where it was sought and what is missing."""
    given, names = Path(data.path).expanduser(), (*data.files, *data.held_out)
    places = list(dict.fromkeys((beside / given, given)))
    for place in places:
        if all((place / name).is_file() for name in names):
            return place
    sought = " and ".join(str(place) for place in places)
    origin = f"; get them from {data.source}" if data.source else ""
    raise OctavoError(
        f"{', '.join(names)} are not all in {sought}{origin}, or name another folder with --data FOLDER",
        param="data.path",
    )


def read_annotated(folder: Path, data: AnnotatedFiles, task: Task) -> Annotated:
    """The sentences of a recipe's files; each has what the task needs."""
    digest = hashlib.sha256()
    for name in (*data.files, *data.held_out):
        digest.update((folder / name).read_bytes())
    parts = [
        tuple(sentence for name in names for sentence in read_sentences(folder / name, task, data.tags))
        for names in (data.files, data.held_out)
    ]
    if not parts[0]:
        raise OctavoError(f"{', '.join(data.files)} hold no sentences", param="data.files")
    return Annotated(parts[0], parts[1], digest.hexdigest())


def read_sentences(path: Path, task: Task, tags: Literal["upos", "xpos"] = "xpos") -> list[Sentence]:
    """A file's sentences. Raises OctavoError for a file that cannot be read, FormatError, which names the line, for one
    of neither layout or without what the task needs."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror or error}", param="data.files") from None
    except (ValueError, EOFError, zlib.error) as error:
        raise FormatError(f"{path} is no UTF-8 text: {error}", param="data.files") from None
    lines = text.split("\n")
    read = _json_lines(lines) if path.name.removesuffix(".gz").endswith(".jsonl") else _conllu(lines, COLUMNS[tags])
    sentences: list[Sentence] = []
    last = 0
    try:
        for number, sentence in read:
            last = number
            if (task == "pos" and not sentence.tags) or (task == "ner" and sentence.entities is None):
                raise ValueError(f"has no {'parts of speech' if task == 'pos' else 'entities'}")
            sentences.append(sentence)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise FormatError(f"{path}, after line {last}: a sentence that is not annotated right ({error})") from None
    return sentences


def _conllu(lines: Sequence[str], column: int) -> Iterator[tuple[int, Sentence]]:
    """Sentences end at empty lines; a word that was written as one with others is there under a range of ids."""
    words: list[str] = []
    tags: list[str] = []
    covered = 0
    for number, line in enumerate([*lines, ""], 1):
        if not line.strip():
            if words:
                yield number, Sentence(tuple(words), tuple(tags))
            words, tags, covered = [], [], 0
        elif not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != 10 or not fields[1]:
                raise ValueError(f"line {number} has not ten columns")
            first, _, last = fields[0].partition("-")
            if last:
                covered = int(last)
            elif "." in first or int(first) <= covered:  # an empty node, or a part of what was written as one
                continue
            words.append(fields[1])
            tags.append(fields[column])


def _json_lines(lines: Sequence[str]) -> Iterator[tuple[int, Sentence]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _sentence(json.loads(line))


def _sentence(row: dict[str, Any]) -> Sentence:
    words = tuple(row["words"] if "words" in row else row["text"])
    tags, marked = tuple(row.get("pos", ())), row.get("entities")
    if not words or not all(isinstance(word, str) and word for word in (*words, *tags)):
        raise ValueError("words and pos are lists of texts")
    if tags and len(tags) != len(words):
        raise ValueError(f"{len(words)} words with {len(tags)} parts of speech")
    if marked is None:
        return Sentence(words, tags)
    entities = tuple((int(one["start"]), int(one["end"]), str(one["type"])) for one in marked)
    length = len("".join(words))
    if not all(0 <= start < end <= length for start, end, _ in entities):
        raise ValueError("an entity lies outside its text")
    return Sentence(words, tags, entities)
