"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) and LayerNorm (Ba et al. 2016, arXiv 1607.06450).

Unusual: where RMSNorm rounds is a switch. LLaMA was trained rounding the normalised x before the weight multiplies it,
others multiply in float32 and round once; with bfloat16 another order gives other numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.nn.config import NormConfig
from octavo.nn.fused import rms_norm


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last dimension; or times 1 + weight; weight may be None.

    feeds_products: nothing reads the result but products, so that under autocast it may be of their type.
    """

    weight: nn.Parameter | None

    def __init__(
        self, width: int, eps: float, *, offset: bool = False, round_last: bool = False, weight: bool = True
    ) -> None:
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.empty(width)) if weight else None)
        self.eps = eps
        self.offset = offset
        self.round_last = round_last
        self.feeds_products = False

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), of x's type."""
        if self.weight is None:
            return functional.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).type_as(x)
        if self.training and rms_norm.usable(x):
            narrow = self.feeds_products and torch.is_autocast_enabled("cpu")
            weight = 1 + self.weight if self.offset else self.weight
            return rms_norm.rms_norm(x, weight, self.eps, torch.get_autocast_dtype("cpu") if narrow else x.dtype)
        if x.is_cuda and not (self.offset or torch.is_grad_enabled()):  # one kernel for four, which rounds at the end
            return functional.rms_norm(x, (x.shape[-1],), self.weight.type_as(x), self.eps)
        normalised = functional.rms_norm(x.float(), (x.shape[-1],), eps=self.eps)
        if self.round_last:
            weight = self.weight.float()
            return (normalised * (1 + weight if self.offset else weight)).type_as(x)
        return normalised.type_as(x) * (1 + self.weight if self.offset else self.weight)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last dimension; weight and bias may be None.

    offset: times 1 + weight.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, width: int, eps: float, *, weight: bool = True, bias: bool = True, offset: bool = False) -> None:
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.empty(width)) if weight else None)
        self.register_parameter("bias", nn.Parameter(torch.empty(width)) if bias else None)
        self.eps = eps
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        weight = self.weight if self.weight is None or not self.offset else self.weight + 1
        return functional.layer_norm(x, (x.shape[-1],), weight, self.bias, self.eps)


class HeadNorm(nn.Module):
    """LayerNorm without a bias over each of `heads` parts of the last dimension, each with its own weights."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.heads = heads
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), of x's type."""
        parts = x.float().view(*x.shape[:-1], self.heads, -1)
        normalised = functional.layer_norm(parts, parts.shape[-1:], eps=self.eps).flatten(-2)
        return (normalised * self.weight.float()).type_as(x)


def make_norm(config: NormConfig, width: int) -> RmsNorm | LayerNorm:
    """The norm that a config names."""
    if config.kind in ("rms", "rms_bare"):
        weight = config.kind == "rms"
        return RmsNorm(width, config.eps, offset=config.offset, round_last=config.round_last, weight=weight)
    weight, bias = config.kind != "layer_bare", config.kind == "layer"
    return LayerNorm(width, config.eps, weight=weight, bias=bias, offset=config.offset)
