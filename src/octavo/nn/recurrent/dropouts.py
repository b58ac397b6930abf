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
        if not self.training or self.rate == 0:
            return x
        return x * functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.rate)


def drop_words(table: Tensor, rate: float, *, training: bool) -> Tensor:
    """A table of embeddings with whole rows zeroed: a word that is dropped is dropped wherever it occurs.

    table: (vocab_size, width) -> the same.
    """
    if not training or rate == 0:
        return table
    return table * functional.dropout(table.new_ones(table.shape[0], 1), rate)


def drop_weights(weight: Tensor, rate: float, *, training: bool) -> Tensor:
    """DropConnect: single weights zeroed, the others scaled; drawn once for all the tokens that are run with it."""
    return functional.dropout(weight, rate, training=training)
