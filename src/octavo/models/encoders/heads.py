"""An encoder's head in numpy, so that scores of texts, tokens and spans need no torch; nn/head.py is the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from octavo.errors import UnsupportedError
from octavo.models.checkpoint import Checkpoint, ScoreHead
from octavo.models.encoders.runner import Floats
from octavo.nn.config import HeadActivation

ERF = np.frompyfunc(math.erf, 1, 1)
ACTIVATIONS: Mapping[HeadActivation, Callable[[Floats], Floats]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + ERF(x / math.sqrt(2)).astype(np.float32)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


class LastTokenHead:
    """A decoder's head for classification: a reward of a whole text, read at its last token, or a value of each."""

    def __init__(self, score: ScoreHead) -> None:
        self._per_token = score.per_token
        self._weight = score.weight.read().dequantize()
        self._bias = 0 if score.bias is None else score.bias.read().dequantize()

    def __call__(self, hidden: Floats, lengths: NDArray[np.intp]) -> Floats:
        """As `EncoderHead.__call__`."""
        x = hidden if self._per_token else hidden[np.cumsum(lengths) - 1]
        return (x @ self._weight.T + self._bias).astype(np.float32)


def labels_of(checkpoint: Checkpoint) -> int | None:
    """How many scores the head for whole texts gives; None where a model has no such head."""
    if checkpoint.score is not None:
        return None if checkpoint.score.per_token else checkpoint.score.weight.shape[0]
    head = checkpoint.config.head
    return head.labels if head is not None and head.task == "sequence" else None


def make_head(checkpoint: Checkpoint) -> Callable[[Floats, NDArray[np.intp]], Floats]:
    """Hidden states and lengths to scores. Raises UnsupportedError for a checkpoint without a head."""
    return EncoderHead(checkpoint) if checkpoint.score is None else LastTokenHead(checkpoint.score)


class EncoderHead:
    """config: its HeadConfig. Raises UnsupportedError for a checkpoint without a head."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        head = checkpoint.config.head
        if head is None:
            raise UnsupportedError(
                f"{checkpoint.name} has no head that scores; give a model for classification, answers or reranking"
            )
        self.config = head
        self._eps = checkpoint.config.norm.eps
        masked = head.task == "masked_lm"
        tied = masked and checkpoint.config.tie_embeddings
        output = "embed_tokens" if tied else "lm_head" if masked else "head.output"
        wanted = {"dense": "head.dense", "norm": "head.norm", "output": output}
        self._parts = {
            f"{part}.{leaf}": np.ascontiguousarray(checkpoint.tensors[f"{name}.{leaf}"].dequantize())
            for part, name in wanted.items()
            for leaf in ("weight", "bias")
            if f"{name}.{leaf}" in checkpoint.tensors
        }
        if tied and "lm_head.bias" in checkpoint.tensors:
            self._parts["output.bias"] = checkpoint.tensors["lm_head.bias"].dequantize()

    def __call__(self, hidden: Floats, lengths: NDArray[np.intp]) -> Floats:
        """Hidden states (tokens, hidden_size) of texts one after another, whose lengths are given, to scores.

        (texts, labels) where whole texts are scored, else (tokens, labels).
        """
        pooling = self.config.pooling if self.config.task in ("sequence", "next_sentence") else None
        x = hidden[np.cumsum(lengths) - lengths] if pooling == "first" else hidden
        x = _mean(x, lengths) if pooling == "mean" else x
        if self.config.activation is not None:
            x = ACTIVATIONS[self.config.activation](self._linear("dense", x))
        x = _mean(x, lengths) if pooling == "late" else x
        if self.config.norm:
            x = self._normalized(x)
        return self._linear("output", x).astype(np.float32)

    def _linear(self, part: str, x: Floats) -> Floats:
        y: Floats = x @ self._parts[f"{part}.weight"].T
        return y if f"{part}.bias" not in self._parts else y + self._parts[f"{part}.bias"]

    def _normalized(self, x: Floats) -> Floats:
        centred = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + self._eps)
        y: Floats = centred / spread * self._parts["norm.weight"]
        return y if "norm.bias" not in self._parts else y + self._parts["norm.bias"]


def _mean(x: Floats, lengths: NDArray[np.intp]) -> Floats:
    """The means over texts that lie one after another."""
    sums = np.add.reduceat(x, np.cumsum(lengths) - lengths, axis=0)
    return (sums / lengths[:, None]).astype(np.float32)
