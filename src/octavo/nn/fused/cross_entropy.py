"""Cross-entropy of a linear output, in parts: all logits of a batch never exist at once.

Unusual: the forward pass makes the gradients too, part by part, since the logits are at hand only then; the backward
pass multiplies them by what comes from above. (The idea: Wijmans et al. 2024, arXiv 2411.09009; Hsu et al. 2024,
arXiv 2410.10989.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from octavo.nn.fused.applying import applies, expect, kernels

BYTES = 1 << 26
"""Of the logits of one part, about."""


def usable(hidden: Tensor, weight: Tensor) -> bool:
    """Whether `linear_cross_entropy` takes them: on the CPU, in training, with kernels."""
    return hidden.requires_grad and applies(hidden) and applies(weight)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The sum over rows of the cross-entropy of hidden @ weight.T, in nats; logits are bfloat16 under autocast.

    hidden: (rows, width); weight: (vocab_size, width); targets: (rows,) int64, none where they are outside of the
    vocabulary.
    """
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    dtype = torch.bfloat16 if autocast else torch.float32
    return _LinearCrossEntropy.apply(hidden, weight, targets, dtype)  # type: ignore[no-any-return, no-untyped-call]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        expect(targets, hidden.shape[:1], torch.int64)
        targets = targets.contiguous()
        losses, dhidden = torch.empty(len(hidden)), torch.empty_like(hidden)
        dweight = torch.zeros_like(weight) if weight.requires_grad else None
        rows = max(64, BYTES // (len(weight) * dtype.itemsize) // 256 * 256)  # products of odd sizes are slow
        with torch.autocast("cpu", enabled=False):
            narrow = weight.to(dtype)
            for start in range(0, len(hidden), rows):
                part = hidden[start : start + rows].to(dtype)
                logits = part @ narrow.T
                addresses = targets[start:].data_ptr(), losses[start:].data_ptr()
                shape = dtype == torch.bfloat16, len(part), len(weight)
                kernels().run("octavo_cross_entropy", logits.data_ptr(), *shape, *addresses)  # logits: their gradients
                dhidden[start : start + rows] = logits @ narrow
                if dweight is not None:
                    dweight += logits.T @ part
        ctx.save_for_backward(dhidden, dweight)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        dhidden, dweight = ctx.saved_tensors
        return dhidden * gradient, None if dweight is None else dweight.mul_(gradient), None, None
