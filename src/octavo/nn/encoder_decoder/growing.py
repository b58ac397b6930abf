"""Keys and values of whole sequences that grow together: the cache of models that step one batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from octavo.nn.encoder_decoder.relative import RelativeBias
from octavo.nn.scoring import Scoring, scaled_attention


class GrowingCache:
    """A `nn.paged.Cache`. bias: of the model whose blocks it serves.

    mask: (batch, tokens) bool of the first tokens that are run, false at padding; None: there is none. What follows
    them has no padding.
    """

    def __init__(self, bias: RelativeBias | None, mask: Tensor | None = None) -> None:
        self._bias = bias
        self._mask = mask
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """q: (batch, heads, tokens, head_dim); k, v: (batch, kv_heads, tokens, head_dim) -> of q's shape."""
        if layer in self._kept:
            keys, values = self._kept[layer]
            k, v = torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)
        self._kept[layer] = (k, v)
        start = k.shape[2] - q.shape[2]
        bias = None if self._bias is None else self._bias(q.shape[2], k.shape[2], start)
        grown = 0 if self._mask is None else k.shape[2] - self._mask.shape[1]
        mask = None if self._mask is None else functional.pad(self._mask, (0, grown), value=True)
        return scaled_attention(q, k, v, scoring, start=start, mask=mask, bias=bias)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, in this order; one may be there several times."""
        self._kept = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self._kept.items()}
        self._mask = None if self._mask is None else self._mask[rows]
