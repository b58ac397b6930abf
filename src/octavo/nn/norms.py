"""RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467) and LayerNorm (Ba et al. 2016, arXiv 1607.06450).

Unusual: RMSNorm computes in float32, rounds the normalised x to x's type and only then multiplies the weight, as LLaMA
was trained; with bfloat16 another order gives other numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.nn.config import NormConfig


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), of x's type."""
        normalised = functional.rms_norm(x.float(), (x.shape[-1],), eps=self.eps)
        return normalised.type_as(x) * self.weight


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return functional.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


def make_norm(config: NormConfig, width: int) -> RmsNorm | LayerNorm:
    """The norm that a config names."""
    return RmsNorm(width, config.eps) if config.kind == "rms" else LayerNorm(width, config.eps)
