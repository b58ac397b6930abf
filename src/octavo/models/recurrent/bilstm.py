"""The network of CKIP Tagger in numpy: vectors of characters and words, stacked bidirectional LSTMs, a score a label.

Each layer reads both directions of the one below ("cross-BiLSTM", as `torch.nn.LSTM` with bidirectional=True). Rows of
a batch are never padded into the arithmetic: a step takes those that are long enough. No torch here.
Source: Li, Fu and Ma 2020 (arXiv 1908.11046).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.nn.recurrent.tagger_config import TaggerConfig

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
UNKNOWN = -1
"""The id of a character or word that has no vector."""


@dataclass(frozen=True)
class TaggerRow:
    """A sentence, each array (n,) or (n, features) over its characters, n >= 1.

    words: the id of the word that a character stands in; tags: its part of speech, UNKNOWN for one that has no place.
    Both are empty for word segmentation.
    """

    characters: Ids
    features: Floats
    words: Ids
    tags: Ids


class TaggerNetwork:
    """tensors: as `TaggerConfig.shapes()` says, float32."""

    def __init__(self, config: TaggerConfig, tensors: Mapping[str, Floats]) -> None:
        self.config = config
        assert {name: tensor.shape for name, tensor in tensors.items()} == config.shapes(), "tensors of another shape"
        self._tensors = tensors

    def __call__(self, rows: Sequence[TaggerRow]) -> list[Floats]:
        """(characters, labels) scores of each row, in their order."""
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index].characters))
        lengths = np.array([len(rows[index].characters) for index in order])
        x = np.zeros((int(lengths[0]), len(rows), self.config.input_size), np.float32)
        for place, index in enumerate(order):
            x[: lengths[place], place] = self.vectors(rows[index])
        for layer in range(self.config.num_layers):
            directions = [self._direction(layer, end) for end in ("", "_reverse")]
            ahead = lstm(x, lengths, *directions[0])
            back = turned(lstm(turned(x, lengths), lengths, *directions[1]), lengths)
            x = np.concatenate((ahead, back), axis=2)
        scores = x @ self._tensors["output.weight"].T + self._tensors["output.bias"]
        found: list[Floats] = [scores[:0, 0]] * len(rows)
        for place, index in enumerate(order):
            found[index] = scores[: lengths[place], place]
        return found

    def vectors(self, row: TaggerRow) -> Floats:
        """(characters, input_size): what the first layer reads. Of what is unknown, features say nothing either."""
        known = np.concatenate((self._tensors["characters"][row.characters], row.features), axis=1)
        x = np.where((row.characters == UNKNOWN)[:, None], self._tensors["unknown_character"], known)
        if not self.config.reads_words:
            return x.astype(np.float32)
        tags = np.zeros((len(row.words), len(self.config.tags)), np.float32)
        placed = np.flatnonzero(row.tags != UNKNOWN) if self.config.tags else np.zeros(0, np.int64)
        tags[placed, row.tags[placed]] = 1
        words = np.concatenate((self._tensors["words"][row.words], tags), axis=1)
        words = np.where((row.words == UNKNOWN)[:, None], self._tensors["unknown_word"], words)
        return np.concatenate((x, words), axis=1).astype(np.float32)

    def _direction(self, layer: int, end: str) -> tuple[Floats, Floats, Floats]:
        names = ("weight_ih", "weight_hh", "bias")
        ih, hh, bias = (self._tensors[f"{name}_l{layer}{end}"] for name in names)
        return ih, hh, bias


def lstm(x: Floats, lengths: NDArray[np.int64], weight_ih: Floats, weight_hh: Floats, bias: Floats) -> Floats:
    """One layer in one direction; `torch.nn.LSTM`'s equations and order of gates: input, forget, cell, output.

    x: (steps, rows, width), lengths: (rows,) never rising. Returns (steps, rows, hidden); past a row's end it is 0.
    """
    steps, rows, _ = x.shape
    size = weight_hh.shape[1]
    given = x @ weight_ih.T + bias
    hidden, cell = np.zeros((rows, size), np.float32), np.zeros((rows, size), np.float32)
    out = np.zeros((steps, rows, size), np.float32)
    recurrent = weight_hh.T
    for step in range(steps):
        count = int((lengths > step).sum())
        gates = given[step, :count] + hidden[:count] @ recurrent
        into, forget, output = (sigmoid(gates[:, at * size : (at + 1) * size]) for at in (0, 1, 3))
        cell[:count] = forget * cell[:count] + into * np.tanh(gates[:, 2 * size : 3 * size])
        hidden[:count] = output * np.tanh(cell[:count])
        out[step, :count] = hidden[:count]
    return out


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    y: Floats = 0.5 * (1 + np.tanh(0.5 * x))
    return y


def turned(x: Floats, lengths: NDArray[np.int64]) -> Floats:
    """Each row of (steps, rows, width) from its own end to its beginning."""
    steps = np.arange(x.shape[0])[:, None]
    places = np.where(steps < lengths, lengths - 1 - steps, steps)
    y: Floats = np.take_along_axis(x, places[:, :, None], axis=0)
    return y
