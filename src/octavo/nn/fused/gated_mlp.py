"""The second half of a gated MLP (Shazeer 2020, arXiv 2002.05202), (silu(gate) * up) @ weight.T, as one operation.

Unusual: the widest numbers of a block are not kept for the backward pass but made again there from gate and up, in the
pass over memory that makes the gradients of those: half the memory of an MLP's activations, and less time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from octavo.nn.fused.applying import applies, expect, kernels


def usable(gate: Tensor, up: Tensor, weight: Tensor) -> bool:
    """Whether `gated_product` takes them: one type, on the CPU, in training, with kernels."""
    return all(x.requires_grad and applies(x, (gate.dtype,)) for x in (gate, up)) and applies(gate) and applies(weight)


def gated_product(gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
    """gate, up: (..., intermediate_size), fp32 or bf16; weight: (hidden_size, intermediate_size), fp32 or bf16.

    Returns (..., hidden_size) of their type; the product is made in it.
    """
    return _GatedProduct.apply(gate, up, weight)  # type: ignore[no-any-return, no-untyped-call]


class _GatedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor) -> Tensor:
        expect(up, gate.shape, gate.dtype)
        gate, up = gate.contiguous(), up.contiguous()
        wide = torch.empty_like(gate)
        addresses = gate.data_ptr(), up.data_ptr(), wide.data_ptr(), None, None
        kernels().run("octavo_gate", *addresses, gate.dtype == torch.bfloat16, gate.numel(), False)
        with torch.autocast("cpu", enabled=False):
            narrow = weight.to(gate.dtype)
            ctx.save_for_backward(gate, up, narrow)
            return functional.linear(wide, narrow)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        gate, up, narrow = ctx.saved_tensors
        wide, dgate, dup = gradient @ narrow, torch.empty_like(gate), torch.empty_like(up)  # wide: its gradient yet
        addresses = gate.data_ptr(), up.data_ptr(), wide.data_ptr(), dgate.data_ptr(), dup.data_ptr()
        kernels().run("octavo_gate", *addresses, gate.dtype == torch.bfloat16, gate.numel(), True)
        wide, gradient = wide.flatten(0, -2), gradient.flatten(0, -2)
        return dgate, dup, (gradient.T @ wide).float() if ctx.needs_input_grad[2] else None
