"""AWD-LSTM (Merity et al. 2017, arXiv 1708.02182): the language model that ULMFiT fine-tunes.

Stacked LSTMs whose last layer is as wide as the embedding, which is also the output's matrix; dropout of every kind on
the way. Unusual: the state is carried from window to window, so that a text is read from end to end in pieces, while
gradients stop at their edges. In eval mode it is `torch.nn.LSTM`, and parameters are named and laid out as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.nn.recurrent.dropouts import VariationalDropout, drop_weights, drop_words

State = tuple[tuple[Tensor, Tensor], ...]
"""(hidden, cell) of each layer, each (1, batch, features)."""
INIT_RANGE = 0.1


@dataclass(frozen=True)
class AwdLstmConfig:
    """Sizes and dropout rates; the defaults are those of ULMFiT (Howard and Ruder 2018, arXiv 1801.06146).

    input_dropout: of the embedded words; layer_dropout: between layers; output_dropout: of the last layer's output, all
    variational. embedding_dropout: of whole words. weight_dropout: of hidden-to-hidden weights.
    """

    vocab_size: int
    embedding_size: int = 400
    hidden_size: int = 1150
    num_layers: int = 3
    tie_embeddings: bool = True
    input_dropout: float = 0.4
    layer_dropout: float = 0.3
    output_dropout: float = 0.4
    embedding_dropout: float = 0.05
    weight_dropout: float = 0.5

    def widths(self) -> list[int]:
        """Of the embedding and of each layer's output."""
        return [self.embedding_size, *[self.hidden_size] * (self.num_layers - 1), self.embedding_size]


@dataclass(frozen=True)
class AwdLstmOutput:
    """logits: (batch, tokens, vocab_size). raw: the last layer's output before its dropout, dropped: after it, both
    (batch, tokens, embedding_size). state: to carry to the next window, without gradients."""

    logits: Tensor
    raw: Tensor
    dropped: Tensor
    state: State


class WeightDropLstm(nn.Module):
    """One LSTM layer with DropConnect on its hidden-to-hidden weights."""

    def __init__(self, input_size: int, hidden_size: int, weight_dropout: float) -> None:
        super().__init__()
        self.weight_dropout = weight_dropout
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh_l0 = nn.Parameter(torch.empty(4 * hidden_size))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x: (batch, tokens, input_size) -> (batch, tokens, hidden_size) and the state after the last token."""
        recurrent = drop_weights(self.weight_hh_l0, self.weight_dropout, training=self.training)
        weights = [self.weight_ih_l0, recurrent, self.bias_ih_l0, self.bias_hh_l0]
        output, hidden, cell = torch.lstm(
            x,
            state,
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )
        return output, (hidden, cell)


class AwdLstm(nn.Module):
    """A language model with fresh weights from `seed` (left unset on the meta device)."""

    def __init__(self, config: AwdLstmConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        widths = config.widths()
        self.embedding = nn.Embedding(
            config.vocab_size, config.embedding_size, _weight=torch.empty(config.vocab_size, config.embedding_size)
        )
        self.layers = nn.ModuleList(
            WeightDropLstm(before, after, config.weight_dropout) for before, after in pairwise(widths)
        )
        self.input_dropout = VariationalDropout(config.input_dropout)
        self.layer_dropout = VariationalDropout(config.layer_dropout)
        self.output_dropout = VariationalDropout(config.output_dropout)
        self.decoder_bias = nn.Parameter(torch.empty(config.vocab_size))
        self.decoder_weight = (
            None if config.tie_embeddings else nn.Parameter(torch.empty(config.vocab_size, config.embedding_size))
        )
        if not self.decoder_bias.is_meta:
            self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int = 0) -> None:
        """Embeddings uniform within 0.1, the layers within 1 / sqrt(hidden), as in their paper; no bias at the end."""
        generator = torch.Generator(self.decoder_bias.device).manual_seed(seed)
        for layer in self.layers:
            for parameter in layer.parameters():
                bound = 1 / math.sqrt(parameter.shape[0] // 4)
                parameter.uniform_(-bound, bound, generator=generator)
        for table in (self.embedding.weight, self.decoder_weight):
            if table is not None:
                table.uniform_(-INIT_RANGE, INIT_RANGE, generator=generator)
        self.decoder_bias.zero_()

    def initial_state(self, batch: int) -> State:
        """Zeros: nothing has been read yet."""
        weight = self.embedding.weight
        return tuple(
            (weight.new_zeros(1, batch, width), weight.new_zeros(1, batch, width)) for width in self.config.widths()[1:]
        )

    def forward(self, tokens: Tensor, state: State | None = None) -> AwdLstmOutput:
        """tokens: (batch, tokens) integers. state: of the window before, of the same batch; None: a text begins."""
        state = self.initial_state(tokens.shape[0]) if state is None else state
        table = drop_words(self.embedding.weight, self.config.embedding_dropout, training=self.training)
        x = self.input_dropout(functional.embedding(tokens, table))
        carried = []
        for index, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            x = x if index == 0 else self.layer_dropout(x)
            x, (hidden, cell) = layer(x, before)
            carried.append((hidden.detach(), cell.detach()))
        dropped = self.output_dropout(x)
        weight = self.embedding.weight if self.decoder_weight is None else self.decoder_weight
        return AwdLstmOutput(functional.linear(dropped, weight, self.decoder_bias), x, dropped, tuple(carried))


def activation_penalty(output: AwdLstmOutput, *, alpha: float = 2.0, beta: float = 1.0) -> Tensor:
    """What training adds to the loss: alpha times the mean square of the dropped output, beta times that of the raw
    output's change from token to token (Merity et al. 2017, section 4.3)."""
    penalty = alpha * output.dropped.pow(2).mean()
    if output.raw.shape[1] > 1:
        penalty = penalty + beta * (output.raw[:, 1:] - output.raw[:, :-1]).pow(2).mean()
    return penalty
