"""What looking inside a decoder finds, as plain data. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Score = Literal["induction", "previous", "duplicate"]


class Head(NamedTuple):
    """An attention head, both numbers from 0; written 18.6."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True, eq=False)
class HeadScores:
    """(layers, heads) attention in [0, 1] on random tokens written twice: to the token after the first occurrence, to
    the one before, and to the first occurrence itself. *_copy_loss: in nats a token."""

    induction: NDArray[np.float64]
    previous: NDArray[np.float64]
    duplicate: NDArray[np.float64]
    first_copy_loss: float
    second_copy_loss: float

    def top(self, score: Score, count: int) -> list[Head]:
        """The heads with the highest scores, best first."""
        values: NDArray[np.float64] = getattr(self, score)
        order = np.argsort(-values, axis=None, kind="stable")[:count]
        return [Head(int(index) // values.shape[1], int(index) % values.shape[1]) for index in order]


@dataclass(frozen=True)
class Ablation:
    """Loss on the second copies, in nats a token: with all heads, without the best induction heads, and without as many
    drawn from all the others, one figure a draw."""

    heads: tuple[Head, ...]
    whole: float
    without_best: float
    without_random: tuple[float, ...]


@dataclass(frozen=True)
class LensLayer:
    """The stream after `layer` blocks, read as if it were the last: for each position the likeliest token and its
    probability, and of the model's own final answer the probability and the rank (0: likeliest)."""

    layer: int
    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]
    final_probabilities: tuple[float, ...]
    final_ranks: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Inspection:
    """All of it. ids: the text's tokens. texts: how each token that occurs anywhere reads. patterns: (tokens, tokens)
    attention of some heads on the text."""

    model: str
    ids: tuple[int, ...]
    texts: Mapping[int, str]
    scores: HeadScores
    ablation: Ablation
    lens: tuple[LensLayer, ...]
    patterns: dict[Head, NDArray[np.float32]]

    @property
    def words(self) -> tuple[str, ...]:
        """The text, token by token."""
        return tuple(self.texts[token] for token in self.ids)

    def as_json(self) -> dict[str, object]:
        """Everything, in JSON's types."""
        scores = {
            field.name: value.tolist() if isinstance(value := getattr(self.scores, field.name), np.ndarray) else value
            for field in fields(self.scores)
        }
        ablation = {field.name: getattr(self.ablation, field.name) for field in fields(self.ablation)}
        return {
            "model": self.model,
            "ids": self.ids,
            "texts": self.texts,
            "scores": scores,
            "ablation": {**ablation, "heads": [str(head) for head in self.ablation.heads]},
            "lens": [{field.name: getattr(layer, field.name) for field in fields(layer)} for layer in self.lens],
            "patterns": {str(head): np.round(weights, 4).tolist() for head, weights in self.patterns.items()},
        }
