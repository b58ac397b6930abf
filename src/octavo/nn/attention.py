"""Multi-head, grouped-query (Ainslie et al. 2023, arXiv 2305.13245) and multi-query attention, in one class.

Unusual: the layer projects, normalises and rotates, then hands q, k and v to an `Attend` with the `Scoring` of its
block: what keeps keys and values is not its business. Whole sequences in training and paged memory in serving both fit
behind it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from octavo.nn.config import TransformerConfig
from octavo.nn.linear import Linear
from octavo.nn.norms import HeadNorm, LayerNorm, RmsNorm, make_norm
from octavo.nn.rotary import rotate
from octavo.nn.scoring import Scoring
from octavo.nn.shapes import qk_norm_widths


class Attend(Protocol):
    """Mixes values, by keys that it may keep."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """q: (batch, heads, tokens, head_dim); k, v: (batch, kv_heads, tokens, ...) -> as q, of v's width."""
        ...


class Attention(nn.Module):
    """q: hidden_size -> heads * head_dim; k, v: -> kv_heads * head_dim; o: back to hidden_size."""

    q_norm: nn.Module | None
    k_norm: nn.Module | None
    sinks: nn.Parameter | None

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        attention, width = config.attention, config.hidden_size
        self.head_dim = attention.head_dim
        self.scoring = Scoring.of(config, layer)
        q_size, kv_size = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
        self.q = Linear(width, q_size, bias=attention.qkv_bias)
        self.k = Linear(width, kv_size, bias=attention.qkv_bias)
        self.v = Linear(width, kv_size, bias=attention.qkv_bias)
        self.o = Linear(q_size, width, bias=attention.output_bias)
        self.clip = attention.clip
        self.register_parameter("sinks", nn.Parameter(torch.empty(attention.num_heads)) if attention.sinks else None)
        self.norm_after_rope = attention.qk_norm_after_rope
        self.split_norm = attention.qk_norm == "head"
        self.q_norm = _qk_norm(config, "q_norm", attention.num_heads)
        self.k_norm = _qk_norm(config, "k_norm", attention.num_kv_heads)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """x: (batch, tokens, hidden_size) -> the same. rotary: cos and sin of the positions, None without rotary."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.clip is not None:
            q, k, v = (part.clamp(-self.clip, self.clip) for part in (q, k, v))
        before = None if self.norm_after_rope else (self.q_norm, self.k_norm)
        q, k, v = self._heads(q, before and before[0]), self._heads(k, before and before[1]), self._heads(v)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        if self.norm_after_rope and self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        scoring = self.scoring if self.sinks is None else replace(self.scoring, sinks=self.sinks)
        mixed = attend(q, k, v, scoring).transpose(1, 2).flatten(2)  # (batch, tokens, heads * head_dim)
        return self.o(mixed)  # type: ignore[no-any-return]

    def _heads(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """(batch, tokens, n * head_dim) -> (batch, n, tokens, head_dim), normalised before or after the split."""
        if norm is not None and not self.split_norm:
            x = norm(x)
        x = x.view(*x.shape[:2], -1, self.head_dim)
        if norm is not None and self.split_norm:
            x = norm(x)
        return x.transpose(1, 2)


def _qk_norm(config: TransformerConfig, name: str, heads: int) -> RmsNorm | LayerNorm | HeadNorm | None:
    width = qk_norm_widths(config.attention).get(name)
    if width is None:
        return None
    if config.attention.qk_norm == "per_head":
        return HeadNorm(width, heads, config.norm.eps)
    return make_norm(config.norm, width)
