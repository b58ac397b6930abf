"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) of float32 rows, in bfloat16 at once where a product reads it.

Unusual: autocast would round the same numbers again for each product that reads them, and each product's gradient back;
here the norm gives bfloat16, and what comes back is summed in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from octavo.nn.fused.applying import applies, expect, kernels


def usable(x: Tensor) -> bool:
    """Whether `rms_norm` takes x: float32 on the CPU, in training, with kernels."""
    return applies(x, (torch.float32,))


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight. x: (..., width) fp32; weight: (width,) fp32 -> x's shape, fp32 or bf16."""
    return _RmsNorm.apply(x, weight, eps, dtype)  # type: ignore[no-any-return, no-untyped-call]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        expect(weight, x.shape[-1:], torch.float32)
        x, weight = x.contiguous(), weight.contiguous()
        width, rows = x.shape[-1], x.numel() // x.shape[-1]
        y, inverse = torch.empty(x.shape, dtype=dtype), torch.empty(rows)
        pointers = y.data_ptr(), dtype == torch.bfloat16, inverse.data_ptr()
        kernels().run("octavo_rms_forward", x.data_ptr(), weight.data_ptr(), rows, width, eps, *pointers)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        used, gradient, width = kernels(), gradient.contiguous(), x.shape[-1]
        dx, dweight = torch.empty_like(x), torch.zeros(used.threads, width)  # a row of sums a thread
        addresses = (each.data_ptr() for each in (x, weight, inverse, gradient))
        sizes = gradient.dtype == torch.bfloat16, x.numel() // width, width
        used.run("octavo_rms_backward", *addresses, *sizes, dx.data_ptr(), dweight.data_ptr())
        return dx, dweight.sum(0), None, None
