"""CKIP Transformers: words, parts of speech and entities as labels that an encoder's head gives to characters.

Words begin where the label B is likelier than I; a word's part of speech is its first character's; entities are spans
of fitting labels. On the kernels no torch is imported. Models: ckiplab/bert-*, albert-* and others of their kind.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

import numpy as np

from octavo.errors import UnsupportedError
from octavo.fetching.sources import resolve
from octavo.generate.ckip.characters import DELIMITERS, CharacterReader
from octavo.generate.ckip.dictionary import cut
from octavo.generate.ckip.labels import OUTSIDE, WHITESPACE, Entity, strict_entities
from octavo.generate.embed import batches
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.encoders.heads import EncoderHead
from octavo.models.encoders.runner import EncoderRow, EncoderRunner, Floats, Weights
from octavo.models.loading import make_encoder
from octavo.nn.recurrent.tagger_config import TaggerTask

READ_AT_ONCE = 8192
"""Tokens that go through the encoder together, padding included."""


class CkipTransformer:
    """One model for one task. Complete when built; close it to free its memory. One thread at a time inside."""

    def __init__(
        self, runner: EncoderRunner, checkpoint: Checkpoint, task: TaggerTask, max_length: int | None = None
    ) -> None:
        """max_length: characters that are read together, at most and by default what the encoder takes."""
        self.name = checkpoint.name
        self.runner = runner
        self.labels = labels_of(checkpoint)
        check_labels(self.labels, task, checkpoint.name)
        self.task = task
        self._head = EncoderHead(checkpoint)
        self._reader = CharacterReader(checkpoint.tokenizer(), checkpoint.config.context_length, max_length)
        self._lock = threading.Lock()

    @staticmethod
    def load(
        reference: str,
        task: TaggerTask,
        *,
        runner: Literal["kernels", "torch"] | None = None,
        weights: Weights | None = None,
        max_length: int | None = None,
    ) -> CkipTransformer:
        """Load a model by path or reference. Raises UnsupportedError for one that is not for the task."""
        checkpoint = open_checkpoint(resolve(reference))
        check_labels(labels_of(checkpoint), task, checkpoint.name)
        return CkipTransformer(make_encoder(checkpoint, runner=runner, weights=weights), checkpoint, task, max_length)

    def __enter__(self) -> CkipTransformer:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def words(self, texts: Sequence[str], delimiters: str = "") -> list[list[str]]:
        """The words of each text; together they are the text. delimiters: each ends a piece that is read by itself."""
        begin = self.labels.index("B") if "B" in self.labels else 0
        scores = self._scores(texts, delimiters)
        return [
            cut(text, (rows[:, begin] > rows[:, 1 - begin]).tolist()) for text, rows in zip(texts, scores, strict=True)
        ]

    def tags(self, sentences: Sequence[Sequence[str]], delimiters: str = DELIMITERS) -> list[list[str]]:
        """The part of speech of each word; WHITESPACE for one of white space or of nothing."""
        return [
            [self._label(word, row) for word, row in zip(sentence, rows, strict=True)]
            for sentence, rows in zip(sentences, self._scores(sentences, delimiters), strict=True)
        ]

    def entities(self, texts: Sequence[str], delimiters: str = "") -> list[list[Entity]]:
        """The named entities of each text, from left to right."""
        return [
            strict_entities(text, [self.labels[int(row.argmax())] for row in rows])
            for text, rows in zip(texts, self._scores(texts, delimiters), strict=True)
        ]

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        with self._lock:
            self.runner.close()

    def _label(self, word: str, row: Floats) -> str:
        return WHITESPACE if not word or word.isspace() else self.labels[int(row.argmax())]

    def _scores(self, sentences: Sequence[Sequence[str]], delimiters: str) -> list[Floats]:
        """(units, labels) of each sentence."""
        pieces = self._reader.pieces(sentences, delimiters)
        lengths = np.array([len(row) for row in pieces.rows], np.intp)
        starts = np.cumsum(lengths) - lengths
        scores = np.zeros((int(lengths.sum()) + 1, len(self.labels)), np.float32)  # the last row is of empty units
        for chosen in batches(lengths, READ_AT_ONCE):
            with self._lock:
                made = self._head(self.runner.encode([EncoderRow(pieces.rows[row]) for row in chosen]), lengths[chosen])
            ends = np.cumsum(lengths[chosen])
            for row, end in zip(chosen, ends, strict=True):
                scores[starts[row] : starts[row] + lengths[row]] = made[end - lengths[row] : end]
        return [scores[[-1 if place is None else place for place in found]] for found in pieces.places]


def labels_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The names of a token head's labels. Raises UnsupportedError for a model without such a head."""
    head = checkpoint.config.head
    if head is None or head.task != "tokens":
        raise UnsupportedError(f"{checkpoint.name} labels no tokens; give a model for token classification")
    names = checkpoint.raw_config.get("id2label")
    given = names if isinstance(names, dict) else {}
    return tuple(str(given.get(str(index), f"LABEL_{index}")) for index in range(head.labels))


def check_labels(labels: Sequence[str], task: TaggerTask, name: str) -> None:
    """Raise UnsupportedError where labels are not of the task."""
    of_words = len(labels) == 2 and set(labels) in ({"B", "I"}, {"LABEL_0", "LABEL_1"})
    of_entities = OUTSIDE in labels and all(
        label == OUTSIDE or (label[:2] in ("B-", "I-", "E-", "S-") and label[2:]) for label in labels
    )
    if {"ws": of_words, "ner": of_entities, "pos": not of_words and not of_entities}[task]:
        return
    wanted = {"ws": "B and I", "pos": "parts of speech", "ner": "O, and B-, I-, E- and S- of each type"}[task]
    shown = ", ".join(labels[:4]) + (", ..." if len(labels) > 4 else "")
    raise UnsupportedError(f"{name} labels tokens as {shown}; {task} needs {wanted}: give a model for {task}")
