"""Rotary position embedding in one pass over the heads, forward and backward, in their own type."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from octavo.nn.fused.applying import applies, expect, kernels
from octavo.nn.kernels.tables.interface import Rotation


def usable(x: Tensor) -> bool:
    """Whether `rotate` takes x: float32 or bfloat16 on the CPU, in training, with kernels."""
    return x.requires_grad and applies(x)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As `nn.rotary.rotate`. x: (batch, heads, tokens, head_dim); cos, sin: (batch or 1, 1, tokens, rotary_dim)."""
    return _Rotate.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        expect(
            cos, (len(cos) if len(cos) == 1 else len(x), 1, x.shape[2], min(cos.shape[-1], x.shape[3])), torch.float32
        )
        expect(sin, cos.shape, torch.float32)
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradient, cos, sin, back=True), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    x = x if x.stride(-1) == 1 else x.contiguous()
    out, cos, sin = torch.empty_like(x), cos.contiguous(), sin.contiguous()
    if out.stride(-1) != 1:
        out = torch.empty(x.shape, dtype=x.dtype)
    addresses = [tensor.data_ptr() for tensor in (x, out, cos, sin)]
    strides = (x.stride()[:3], out.stride()[:3], 0 if len(cos) == 1 else cos.stride(0))
    bf16 = x.dtype == torch.bfloat16
    rotation = Rotation(*addresses, *strides, bf16, *x.shape, cos.shape[-1], back, 0)
    kernels().run("octavo_rotate", ctypes.byref(rotation))
    return out
