"""What reads an encoder's hidden states (Devlin et al. 2018, arXiv 1810.04805), and an output tied to the embedding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from octavo.nn.config import HeadActivation, HeadConfig, TransformerConfig
from octavo.nn.linear import Linear
from octavo.nn.mlp import ACTIVATIONS
from octavo.nn.norms import make_norm
from octavo.nn.shapes import head_width

WHOLE = ("sequence", "next_sentence")
"""Tasks that score a whole text."""
HEAD_ACTIVATIONS: dict[HeadActivation, Callable[[Tensor], Tensor]] = {**dict(ACTIVATIONS.items()), "tanh": torch.tanh}


class Head(nn.Module):
    """dense, activation, norm and output, each where the config has it; a masked_lm's output is the model's lm_head."""

    def __init__(self, config: TransformerConfig, head: HeadConfig) -> None:
        super().__init__()
        width = head_width(config, head)
        self.pooling = head.pooling if head.task in WHOLE else None
        self.activation = HEAD_ACTIVATIONS[head.activation or "relu"]
        self.dense = None if head.activation is None else Linear(config.hidden_size, width, bias=head.dense_bias)
        self.norm = make_norm(config.norm, width) if head.norm else None
        self.output = None if head.task == "masked_lm" else Linear(width, head.labels, bias=True)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """hidden: (batch, tokens, hidden_size); mask: (batch, tokens) bool, false at padding.

        Returns (batch, labels) for a sequence, (batch, tokens, labels) for tokens and spans, and what the lm_head reads
        for a masked_lm.
        """
        pool = partial(pooled, mask=mask, mean=self.pooling != "first")
        x = pool(hidden) if self.pooling in ("first", "mean") else hidden
        if self.dense is not None:
            x = self.activation(self.dense(x))
        x = pool(x) if self.pooling == "late" else x
        x = x if self.norm is None else self.norm(x)
        return x if self.output is None else self.output(x)


class TiedOutput(nn.Module):
    """A bias for logits whose matrix is the embedding's."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(vocab_size))


def pooled(hidden: Tensor, mask: Tensor | None, *, mean: bool) -> Tensor:
    """(batch, tokens, width) -> (batch, width): the mean over the true tokens, or the first of them."""
    if mask is None:
        return hidden.mean(1) if mean else hidden[:, 0]
    if mean:
        weights = mask.type_as(hidden)[:, :, None]
        return (hidden * weights).sum(1) / weights.sum(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.int().argmax(1)]
