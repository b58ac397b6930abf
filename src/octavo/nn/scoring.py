"""How a block scores keys and which of them a query sees: scale, soft cap, sliding window, ALiBi, sinks.

Unusual: one function serves whole sequences, padded or not, and cached ones; only a soft cap leaves torch's fused
attention. Windows count the token itself, so a window of W sees W positions (Jiang et al. 2023, arXiv 2310.06825).
ALiBi before the scale is rounded as Falcon was trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from octavo.nn.config import GrowthConfig, TransformerConfig
from octavo.nn.frequencies import alibi_slopes
from octavo.nn.fused import attention as fused


@dataclass(frozen=True)
class Scoring:
    """scale None: head_dim ** -0.5. window None: all positions. slopes: of ALiBi, one a head, before the scale or after
    it. sinks: (heads,), the scores of seeing nothing, or None.

    chunked: windows are chunks, counted from position 0. growth: of queries, or None. bias: added to the
    scores, or None.

    causal: a query sees the keys up to its own; else those on both sides of it, each less than a window away.
    """

    scale: float | None = None
    softcap: float | None = None
    window: int | None = None
    slopes: tuple[float, ...] = ()
    causal: bool = True
    slopes_after_scale: bool = False
    sinks: Tensor | None = None
    chunked: bool = False
    growth: GrowthConfig | None = None
    bias: Tensor | None = None

    @classmethod
    def of(cls, config: TransformerConfig, layer: int) -> Scoring:
        """What a config says of one block."""
        attention = config.attention
        slopes = alibi_slopes(attention.num_heads) if attention.alibi else ()
        scale = attention.scale if attention.latent is None else attention.scale or attention.head_dim**-0.5
        window, causal = config.window_of(layer), config.encoder is None
        after, growth = attention.alibi_after_scale, attention.growth
        if growth is not None and not growth.turned and config.rope_of(layer) is not None:
            growth = None
        return cls(scale, attention.softcap, window, slopes, causal, after, None, attention.chunked, growth)

    def first_seen(self, position: int) -> int:
        """The first position that a token at `position` sees."""
        if self.window is None:
            return 0
        return position // self.window * self.window if self.chunked else max(0, position + 1 - self.window)


def scaled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scoring: Scoring,
    *,
    start: int = 0,
    first_key: int = 0,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Softmax(q k^T * scale) v over the keys that each query sees, a group of q's heads sharing each of k's and v's.

    q: (batch, heads, tokens, head_dim), at positions from `start` on; k, v: (batch, kv_heads, keys, ...), from
    `first_key` on. mask: (batch, keys) bool, false at padding, which no query sees but itself.
    bias: (1, heads, tokens, keys), added to the scores. Returns q's shape, with v's width.
    """
    tokens, keys = q.shape[2], k.shape[2]
    bias = scoring.bias if bias is None else bias
    if scoring.growth is not None:
        q = grown(q, scoring.growth, positions_of(tokens, mask, q.device, start))
    plain = mask is None and bias is None and not scoring.slopes and scoring.softcap is None and scoring.sinks is None
    if plain and scoring.first_seen(start + tokens - 1) <= first_key and (tokens == 1 or start == first_key):
        if scoring.causal and tokens > 1 and fused.usable(q, k, v):
            return fused.causal_attention(q, k, v, scoring.scale)
        return functional.scaled_dot_product_attention(
            q, k, v, is_causal=scoring.causal and tokens > 1, enable_gqa=q.shape[1] != k.shape[1], scale=scoring.scale
        )
    seen = visible(tokens, keys, start - first_key, scoring, mask, q.device)
    if scoring.chunked and scoring.window is not None:
        query, key = (positions_of(n, mask, q.device, at) for n, at in ((tokens, start), (keys, first_key)))
        seen = seen & ((query // scoring.window)[:, None, :, None] == (key // scoring.window)[:, None, None, :])
    positions = positions_of(keys, mask, q.device, first_key) if scoring.slopes else None
    return attention_where(q, k, v, scoring, seen, positions, bias)


def attention_where(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scoring: Scoring,
    seen: Tensor,
    positions: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """`scaled_attention` over the keys that `seen`, (batch or 1, 1, tokens, keys) bool, says.

    positions: (batch or 1, keys), of the keys, where ALiBi asks for them.
    """
    gqa = q.shape[1] != k.shape[1]
    if scoring.softcap is not None:
        return _capped(q, k, v, scoring, seen)
    if scoring.slopes:
        assert positions is not None, "ALiBi asks for them"
        bias = _alibi(scoring, q, positions)
    bias = seen if bias is None else bias.masked_fill(~seen, -math.inf)
    if scoring.sinks is not None:
        k, v, bias = _with_sinks(k, v, bias, scoring.sinks)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=gqa, scale=scoring.scale)


def one_query(q: Tensor, k: Tensor, v: Tensor, scale: float | None, bias: Tensor) -> Tensor:
    """Attention of one query a row. bias: (batch, 1, 1, keys), added to the scores.

    Queries of a group are handed on as tokens of one head: no keys and values need be repeated for them.
    """
    grouped = q.reshape(len(q), k.shape[1], -1, q.shape[3])
    mixed = functional.scaled_dot_product_attention(grouped, k, v, attn_mask=bias, scale=scale)
    return mixed.flatten(1, 2)[:, :, None]


def cross_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None, mask: Tensor | None) -> Tensor:
    """Every query over all keys of other tokens. mask: (batch, keys) bool, false at padding; some key is none."""
    seen = None if mask is None else mask[:, None, None, :]
    gqa = q.shape[1] != k.shape[1]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=gqa, scale=scale)


def visible(tokens: int, keys: int, offset: int, scoring: Scoring, mask: Tensor | None, device: torch.device) -> Tensor:
    """Which key each query sees, (batch or 1, 1, tokens, keys) bool; query i stands at key i + offset.

    A padding query sees itself, so that no row of the softmax is empty.
    """
    query = torch.arange(tokens, device=device)[:, None] + offset
    key = torch.arange(keys, device=device)
    seen = key <= (query if scoring.causal else keys)
    if scoring.window is not None and not scoring.chunked:
        seen = seen & ((key - query).abs() < scoring.window)
    seen = seen.expand(tokens, keys)
    if mask is not None:
        seen = (seen & mask[:, None, None, :]) | (key == query)
    return seen.expand(1, 1, -1, -1) if seen.ndim == 2 else seen


def _capped(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, seen: Tensor) -> Tensor:
    assert scoring.softcap is not None, "called for a soft cap"
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(2, 3) * (scoring.scale or q.shape[-1] ** -0.5)
    scores = torch.tanh(scores / scoring.softcap) * scoring.softcap
    weights = scores.float().masked_fill(~seen, -math.inf).softmax(-1).type_as(q)
    return weights @ v


def positions_of(tokens: int, mask: Tensor | None, device: torch.device, first: int = 0) -> Tensor:
    """(batch or 1, tokens): positions, of true tokens alone where there is a mask, (batch, tokens)."""
    if mask is None:
        return torch.arange(first, first + tokens, device=device)[None]
    return (mask.cumsum(1) - 1).clamp(min=0)


def grown(q: Tensor, growth: GrowthConfig, positions: Tensor) -> Tensor:
    """q: (batch, heads, tokens, head_dim), positions: (batch or 1, tokens)."""
    chunks = torch.floor((positions + growth.first) / growth.length)
    return (q * (1 + growth.slope * torch.log1p(chunks))[:, None, :, None]).type_as(q)


def _alibi(scoring: Scoring, q: Tensor, positions: Tensor) -> Tensor:
    """(batch or 1, heads, 1, keys): slope times key position; before the scale in bfloat16, as Falcon has it."""
    slopes = _on_device(scoring.slopes, q.device)
    if scoring.slopes_after_scale:
        return (slopes[:, None] * positions[:, None, :]).type_as(q)[:, :, None, :]
    biases = slopes.bfloat16()[:, None] * positions[:, None, :].bfloat16()  # (batch, heads, keys)
    return (biases.type_as(q) * (scoring.scale or q.shape[-1] ** -0.5))[:, :, None, :]


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _on_device(slopes: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(slopes, device=device)


def _with_sinks(k: Tensor, v: Tensor, seen: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """k and v with one more key of zeros, and the scores' bias, (batch or 1, heads, tokens, keys + 1): its is the sink.

    A score of the sink's that adds nothing to the values is what a softmax over one more score leaves.
    """
    k, v = (functional.pad(part, (0, 0, 0, 1)) for part in (k, v))
    bias = torch.zeros(seen.shape, dtype=k.dtype, device=k.device).masked_fill(~seen, -math.inf)
    bias = bias.expand(-1, len(sinks), -1, -1)
    column = sinks.type_as(bias)[None, :, None, None].expand(*bias.shape[:3], 1)
    return k, v, torch.cat((bias, column), dim=-1)
