"""Multi-head, grouped-query (Ainslie et al. 2023, arXiv 2305.13245) and multi-query attention, in one class.

Unusual: the layer projects and rotates, then hands q, k and v to an `Attend`: what keeps keys and values, and which
position sees which, is not its business. Whole sequences in training and paged memory in serving both fit behind it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.nn.config import AttentionConfig
from octavo.nn.linear import Linear
from octavo.nn.rotary import rotate

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q: (batch, heads, tokens, head_dim); k, v: (batch, kv_heads, tokens, head_dim) -> of q's shape."""


class Attention(nn.Module):
    """q: hidden_size -> heads * head_dim; k, v: -> kv_heads * head_dim; o: back to hidden_size."""

    def __init__(self, config: AttentionConfig, hidden_size: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q = Linear(hidden_size, q_size, bias=config.qkv_bias)
        self.k = Linear(hidden_size, kv_size, bias=config.qkv_bias)
        self.v = Linear(hidden_size, kv_size, bias=config.qkv_bias)
        self.o = Linear(q_size, hidden_size, bias=config.output_bias)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """x: (batch, tokens, hidden_size) -> the same. rotary: cos and sin of the positions, None without rotary."""
        q, k, v = self._heads(self.q(x)), self._heads(self.k(x)), self._heads(self.v(x))
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        mixed = attend(q, k, v).transpose(1, 2).flatten(2)  # (batch, tokens, heads * head_dim)
        return self.o(mixed)  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, tokens, n * head_dim) -> (batch, n, tokens, head_dim)."""
        return x.view(*x.shape[:2], -1, self.head_dim).transpose(1, 2)


def scaled_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Softmax(q k^T / sqrt(head_dim)) v, a group of q's heads sharing each head of k and v.

    mask: bool, true where a query sees a key; broadcast to (batch, heads, queries, keys).
    """
    gqa = q.shape[1] != k.shape[1]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=gqa)


def padded_causal_mask(mask: Tensor) -> Tensor:
    """Which key each query sees in a padded batch. mask: (batch, tokens) bool, false at padding.

    Returns (batch, 1, tokens, tokens). A padding query sees itself, so that no row of the softmax is empty.
    """
    tokens = mask.shape[1]
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(tokens, dtype=torch.bool, device=mask.device)
    return (causal & mask[:, None, None, :]) | itself
