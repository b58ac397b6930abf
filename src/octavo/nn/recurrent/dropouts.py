"""Dropout for recurrent networks: masks that last for a whole sequence, for whole words, and for weights.

Sources: Gal and Ghahramani 2016 (arXiv 1512.05287) for variational and embedding dropout; Wan et al. 2013 for
DropConnect, on hidden-to-hidden weights by Merity et al. 2017 (arXiv 1708.02182).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class VariationalDropout(nn.Module):
    """Zeroes features by one mask for all tokens of a sequence, and scales the others by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, features) -> the same."""
        return x * functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.rate, self.training)


def drop_words(table: Tensor, rate: float, *, training: bool) -> Tensor:
    """A table of embeddings, (vocab_size, width), with whole rows zeroed: a dropped word is so wherever it occurs."""
    return table * functional.dropout(table.new_ones(table.shape[0], 1), rate, training)


def drop_weights(weight: Tensor, rate: float, *, training: bool) -> Tensor:
    """DropConnect: single weights zeroed, the others scaled; drawn once for all the tokens that are run with it."""
    return functional.dropout(weight, rate, training)
