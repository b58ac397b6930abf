"""CKIP Tagger's network for training: `models/recurrent/bilstm.py` runs the same weights in numpy.

Dropout is variational: one mask a sentence for what a layer reads and for the last layer's output, and one a batch for
the state that a step hands to the next, which is the same as dropping columns of the hidden-to-hidden weights.
Unusual: known characters and words are made unknown at random, so that the unknown vectors learn what they stand for.
Source: Li, Fu and Ma 2020 (arXiv 1908.11046).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from octavo.nn.recurrent.dropouts import VariationalDropout
from octavo.nn.recurrent.tagger_config import TaggerConfig

VECTOR_RANGE = 0.1


class BiLstmTagger(nn.Module):
    """Parameters are named and laid out as `TaggerConfig.shapes()` says; fresh ones are drawn from `seed`.

    dropout: of features and states. unknown: of known characters and words, how many are read as unknown in training.
    """

    def __init__(self, config: TaggerConfig, *, dropout: float = 0.35, unknown: float = 0.02, seed: int = 0) -> None:
        super().__init__()
        self.config, self.dropout, self.unknown = config, dropout, unknown
        self.drop = VariationalDropout(dropout)
        self.output = nn.Linear(2 * config.hidden_size, len(config.labels))
        generator = torch.Generator().manual_seed(seed)
        for name, shape in config.shapes().items():
            drawn = _drawn(name, shape, config.hidden_size, generator)
            if name.startswith("output."):
                with torch.no_grad():
                    self.get_parameter(name).copy_(drawn)
            else:
                self.register_parameter(name, nn.Parameter(drawn))

    def forward(self, characters: Tensor, features: Tensor, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """(rows, characters, labels) scores; past a row's length they mean nothing.

        characters, words, tags: (rows, characters) ids, -1 for what is unknown; features: (rows, characters, features);
        lengths: (rows,), on the CPU. words and tags are read where the task has them.
        """
        x = self._read(characters, features, words, tags)
        for layer in range(self.config.num_layers):
            packed = pack_padded_sequence(self.drop(x), lengths, batch_first=True, enforce_sorted=False)
            data, *_ = torch.lstm(
                packed.data,
                packed.batch_sizes,
                self._state(len(lengths), x),
                self._weights(layer),
                has_biases=True,
                num_layers=1,
                dropout=0.0,
                train=self.training,
                bidirectional=True,
            )
            made = PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
            x, _ = pad_packed_sequence(made, batch_first=True, total_length=x.shape[1])
        scores: Tensor = self.output(self.drop(x))
        return scores

    def _read(self, characters: Tensor, features: Tensor, words: Tensor, tags: Tensor) -> Tensor:
        characters = self._hidden(characters)
        known = torch.cat(
            (functional.embedding(characters.clamp(min=0), self.get_parameter("characters")), features), dim=-1
        )
        x = torch.where(characters[..., None] < 0, self.get_parameter("unknown_character"), known)
        if not self.config.reads_words:
            return x
        words, size = self._hidden(words), len(self.config.tags)
        parts = [functional.embedding(words.clamp(min=0), self.get_parameter("words"))]
        if size:
            parts.append(functional.one_hot(tags.clamp(min=0), size) * (tags >= 0)[..., None])
        read = torch.where(words[..., None] < 0, self.get_parameter("unknown_word"), torch.cat(parts, dim=-1))
        return torch.cat((x, read), dim=-1)

    def _hidden(self, ids: Tensor) -> Tensor:
        if not self.training or not self.unknown:
            return ids
        return ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.unknown, -1)

    def _state(self, rows: int, x: Tensor) -> tuple[Tensor, Tensor]:
        zeros = x.new_zeros(2, rows, self.config.hidden_size)
        return zeros, zeros

    def _weights(self, layer: int) -> list[Tensor]:
        made = []
        for end in ("", "_reverse"):
            ih, hh, bias = self._direction(layer, end)
            if self.training and self.dropout:
                hh = hh * functional.dropout(hh.new_ones(hh.shape[1]), self.dropout)
            made += [ih, hh, bias, torch.zeros_like(bias)]
        return made

    def _direction(self, layer: int, end: str) -> tuple[Tensor, Tensor, Tensor]:
        names = (f"{name}_l{layer}{end}" for name in ("weight_ih", "weight_hh", "bias"))
        ih, hh, bias = map(self.get_parameter, names)
        return ih, hh, bias


def _drawn(name: str, shape: tuple[int, ...], hidden_size: int, generator: torch.Generator) -> Tensor:
    """Vectors of normal noise; matrices as Glorot and Bengio 2010; biases of 0, of forget gates 1."""
    if "bias" in name:
        drawn = torch.zeros(shape)
        if name != "output.bias":
            drawn[hidden_size : 2 * hidden_size] = 1
        return drawn
    if "weight" in name:
        return torch.empty(shape).uniform_(-1, 1, generator=generator) * math.sqrt(6 / sum(shape))
    return torch.randn(shape, generator=generator) * VECTOR_RANGE
