"""Causal attention of whole bfloat16 sequences, whose way back is a few large products for each part of the queries.

Unusual: the softmax's normaliser is two more numbers of each query, and 1 in each key, so that a product gives the
logarithm of a weight; rounding it to bfloat16 costs a large weight no more than rounding the weight. What a weight's
gradient is lessened by comes in the same way. Torch's own backward pass takes twice as long.
Source: Dao et al. 2022 (arXiv 2205.14135), algorithm 4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from octavo.nn.fused.applying import applies

QUERIES = 128
"""Of one part."""


def usable(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `causal_attention` takes them: bfloat16 of one width on the CPU, in training, with kernels."""
    return q.shape[-1] == v.shape[-1] and all(x.requires_grad and applies(x, (torch.bfloat16,)) for x in (q, k, v))


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """q: (batch, heads, tokens, head_dim); k, v: (batch, kv_heads, tokens, head_dim) -> as q."""
    return _CausalAttention.apply(q, k, v, scale or q.shape[-1] ** -0.5)  # type: ignore[no-any-return, no-untyped-call]


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Any:
        given = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, is_causal=True, scale=scale)
        ctx.save_for_backward(q, k, v, *given)
        ctx.scale = scale
        return given[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, mixed, normaliser = ctx.saved_tensors
        tokens, width, shape = q.shape[2], q.shape[3], k.shape
        less = torch.linalg.vecdot(mixed.float(), gradient.float())
        queries, above = _with(q, normaliser / -ctx.scale, shape[1]), _with(gradient, -less, shape[1])
        keys, values = (torch.cat((x, x.new_ones(*shape[:3], 2)), dim=-1).flatten(0, 1) for x in (k, v))
        dq, dk, dv = torch.empty_like(queries[..., :width]), *torch.zeros(2, len(keys), tokens, width)
        later = torch.ones(QUERIES, QUERIES, dtype=torch.bool).triu(1)
        for start in range(0, tokens, QUERIES):
            end = min(start + QUERIES, tokens)
            part, size = slice(start, end), end - start
            asked, given = queries[:, :, part].flatten(1, 2), above[:, :, part].flatten(1, 2)
            weights = (asked @ keys[:, :end].mT).mul_(ctx.scale).exp_()  # (batch * kv_heads, queries, keys)
            weights.view(len(keys), -1, size, end)[..., part].masked_fill_(later[:size, :size], 0)
            dscores = (given @ values[:, :end].mT).mul_(weights)
            dq[:, :, part] = (dscores @ keys[:, :end, :width]).view(len(keys), -1, size, width)
            dk[:, :end] += dscores.mT @ asked[..., :width]
            dv[:, :end] += weights.mT @ given[..., :width]
        return (
            dq.mul_(ctx.scale).view(q.shape),
            dk.mul_(ctx.scale).to(k.dtype).view(shape),
            dv.to(v.dtype).view(shape),
            None,
        )


def _with(x: Tensor, number: Tensor, kv_heads: int) -> Tensor:
    """Rows with a float32 number each, in two of x's type: (batch * kv_heads, heads of each, tokens, width + 2)."""
    large = number.to(x.dtype)
    both = torch.cat((x, torch.stack((large, (number - large).to(x.dtype)), dim=-1)), dim=-1)
    return both.view(len(x) * kv_heads, -1, *both.shape[2:])
