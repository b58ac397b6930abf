"""Multi-head, grouped-query (Ainslie et al. 2023, arXiv 2305.13245) and multi-query attention, in one class, and latent
attention (DeepSeek-AI 2024, arXiv 2405.04434), which keeps one small vector of a token, in another.

Unusual: the layer projects, normalises and rotates, then hands q, k and v to an `Attend` with the `Scoring` of its
block: what keeps keys and values is not its business. Whole sequences in training and paged memory in serving both fit
behind it. Latent attention multiplies the matrices that would make all heads' keys and values of the latent vector into
the queries and into what comes out, so that heads attend over latent vectors themselves: multi-query attention, with
less memory and more multiplications than its expanded form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from octavo.nn.config import TransformerConfig
from octavo.nn.linear import JointLinear, Linear
from octavo.nn.norms import HeadNorm, LayerNorm, RmsNorm, make_norm
from octavo.nn.rotary import rotate
from octavo.nn.scoring import Scoring, cross_attention
from octavo.nn.shapes import LATENT_NORM_EPS, qk_norm_widths


class Attend(Protocol):
    """Mixes values, by keys that it may keep."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """q: (batch, heads, tokens, head_dim); k, v: (batch, kv_heads, tokens, ...) -> as q, of v's width."""
        ...


class Attention(nn.Module):
    """q: hidden_size -> heads * head_dim; k, v: -> kv_heads * head_dim; o: back to hidden_size."""

    sinks: nn.Parameter | None

    def __init__(self, config: TransformerConfig, layer: int, read_size: int | None = None) -> None:
        """read_size: the width of what keys and values are made of; None: hidden_size."""
        super().__init__()
        attention, width = config.attention, config.hidden_size
        self.head_dim = attention.head_dim
        self.scoring = Scoring.of(config, layer)
        q_size, kv_size = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
        self.q = Linear(width, q_size, bias=attention.qkv_bias)
        self.k = Linear(read_size or width, kv_size, bias=attention.qkv_bias)
        self.v = Linear(read_size or width, kv_size, bias=attention.qkv_bias)
        self.o = Linear(q_size, width, bias=attention.output_bias)
        self._joint: JointLinear | None = None
        self.output_gate = Linear(width, q_size, bias=False) if attention.output_gate else None
        self.disentangled = attention.disentangled is not None
        self.clip = attention.clip
        self.register_parameter("sinks", nn.Parameter(torch.empty(attention.num_heads)) if attention.sinks else None)
        self.norm_after_rope = attention.qk_norm_after_rope
        self.split_norm = attention.qk_norm in ("head", "turned")
        self.q_norm = _qk_norm(config, layer, "q_norm", attention.num_heads)
        self.k_norm = _qk_norm(config, layer, "k_norm", attention.num_kv_heads)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """x: (batch, tokens, hidden_size) -> the same. rotary: cos and sin of the positions, None without rotary.

        Where content and distance are apart it is what `Distances` gives.
        """
        q, k, v = self._projected(x, None if self.disentangled else rotary)
        if self.disentangled:
            assert rotary is not None, "distances have vectors"
            return self._output(attend(q, k, v, replace(self.scoring, bias=self._by_distance(q, k, *rotary))))
        if self.norm_after_rope and self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        scoring = self.scoring if self.sinks is None else replace(self.scoring, sinks=self.sinks)
        mixed = attend(q, k, v, scoring)
        if self.output_gate is not None:
            mixed = mixed * self._heads(self.output_gate(x)).sigmoid()
        return self._output(mixed)

    def _projected(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, the first two turned."""
        if self._joint is not None and (self.q_norm is None or self.norm_after_rope):  # q and k turn together
            heads = self._heads(self._clipped(self._joint.whole(x)))
            queries, keys = len(self.q.weight) // self.head_dim, len(self.k.weight) // self.head_dim
            turned, v = torch.split(heads, [queries + keys, keys], 1)
            turned = turned if rotary is None else rotate(turned, *rotary)
            q, k = torch.split(turned, [queries, keys], 1)
            return q, k, v
        q, k, v = (self.q(x), self.k(x), self.v(x)) if self._joint is None else self._joint(x)
        q, (k, v) = self._queries(q), self._kept(k, v)
        return (q, k, v) if rotary is None else (rotate(q, *rotary), rotate(k, *rotary), v)

    def join(self) -> None:
        """Make queries, keys and values in one product from now on, where their weights allow it."""
        if JointLinear.joins(linears := (self.q, self.k, self.v)):
            self._joint = JointLinear(linears)

    def _by_distance(self, q: Tensor, k: Tensor, vectors: Tensor, distance: Tensor) -> Tensor:
        """What scores get from distances, (batch, heads, tokens, tokens).

        vectors: (distances, hidden_size); distance: (tokens, tokens), each query's and key's.
        """
        far_q, far_k = self._queries(self.q(vectors[None])), self.keys_values(vectors[None])[0]
        distance = distance.expand(*q.shape[:2], -1, -1)
        of_keys = (q @ far_k.transpose(2, 3)).gather(-1, distance)
        of_queries = (k @ far_q.transpose(2, 3)).gather(-1, distance.transpose(2, 3)).transpose(2, 3)
        return (of_keys + of_queries) * (self.scoring.scale or self.head_dim**-0.5)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (batch, tokens, hidden_size) -> its keys and values, (batch, kv_heads, tokens, head_dim)."""
        return self._kept(self.k(x), self.v(x))

    def read(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Cross-attention to keys and values of other tokens. mask: (batch, keys) bool, false at padding."""
        return self._output(cross_attention(self._queries(self.q(x)), k, v, self.scoring.scale, mask))

    def _queries(self, q: Tensor) -> Tensor:
        return self._heads(self._clipped(q), None if self.norm_after_rope else self.q_norm)

    def _kept(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        norm = None if self.norm_after_rope else self.k_norm
        return self._heads(self._clipped(k), norm), self._heads(self._clipped(v))

    def _clipped(self, x: Tensor) -> Tensor:
        return x if self.clip is None else x.clamp(-self.clip, self.clip)

    def _output(self, mixed: Tensor) -> Tensor:
        return self.o(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """(batch, tokens, n * head_dim) -> (batch, n, tokens, head_dim), normalised before or after the split."""
        if norm is not None and not self.split_norm:
            x = norm(x)
        x = x.view(*x.shape[:2], -1, self.head_dim)
        if norm is not None and self.split_norm:
            x = norm(x)
        return x.transpose(1, 2)


class LatentAttention(nn.Module):
    """q, or q_a, q_a_norm and q_b: -> heads * head_dim. kv_a, kv_a_norm: -> kv_rank; k_rope: -> rotary_dim.

    kv_b: kv_rank -> heads * (head_dim - rotary_dim + value_dim), a head's key before its value; o: back to hidden_size.
    """

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        attention, latent, rope, width = config.attention, config.attention.latent, config.rope, config.hidden_size
        assert latent is not None and rope is not None, "latent attention has both"
        self.heads, self.head_dim, self.value_dim = attention.num_heads, attention.head_dim, latent.value_dim
        self.rotary_dim = rope.rotary_dim
        self.scoring = Scoring.of(config, layer)
        bias, q_size = attention.qkv_bias, attention.num_heads * attention.head_dim
        if latent.q_rank is None:
            self.q = Linear(width, q_size, bias=False)
        else:
            self.q_a = Linear(width, latent.q_rank, bias=bias)
            self.q_a_norm = RmsNorm(latent.q_rank, LATENT_NORM_EPS)
            self.q_b = Linear(latent.q_rank, q_size, bias=False)
        self.kv_a = Linear(width, latent.kv_rank, bias=bias)
        self.k_rope = Linear(width, self.rotary_dim, bias=bias)
        self.kv_a_norm = RmsNorm(latent.kv_rank, LATENT_NORM_EPS)
        kept = self.head_dim - self.rotary_dim
        self.kv_b = Linear(latent.kv_rank, self.heads * (kept + self.value_dim), bias=False)
        self.o = Linear(self.heads * self.value_dim, width, bias=attention.output_bias)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """x: (batch, tokens, hidden_size) -> the same. rotary: cos and sin of the positions."""
        assert rotary is not None, "a part of each key turns"
        q = self.q(x) if hasattr(self, "q") else self.q_b(self.q_a_norm(self.q_a(x)))
        q = q.view(*q.shape[:2], self.heads, self.head_dim).transpose(1, 2)
        kept = self.head_dim - self.rotary_dim
        matrices = self.kv_b.dequantize().view(self.heads, kept + self.value_dim, -1)
        into_keys, into_values = matrices[:, :kept], matrices[:, kept:]
        latent = self.kv_a_norm(self.kv_a(x))[:, None]  # (batch, 1, tokens, kv_rank)
        k = torch.cat((latent, rotate(self.k_rope(x)[:, None], *rotary)), dim=-1)
        q = torch.cat((q[..., :kept] @ into_keys, rotate(q[..., kept:], *rotary)), dim=-1)
        mixed = attend(q, k, latent, self.scoring)  # (batch, heads, tokens, kv_rank)
        values = mixed @ into_values.transpose(1, 2)
        return self.o(values.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _qk_norm(config: TransformerConfig, layer: int, name: str, heads: int) -> RmsNorm | LayerNorm | HeadNorm | None:
    width, kind = qk_norm_widths(config.attention).get(name), config.attention.qk_norm
    if width is None or (kind == "turned" and config.rope_of(layer) is None):
        return None
    if kind == "turned":
        return RmsNorm(width, config.norm.eps, weight=False)
    if kind == "per_head":
        return HeadNorm(width, heads, config.norm.eps)
    return make_norm(config.norm, width)
