"""`Linear`: a matrix as a layer. The one place where a block meets how its weights are stored.

Adaptation wraps a `Linear` and quantisation replaces it; both offer `forward`, `nbytes` and `dequantize`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Module):
    """Dense storage: weight (out, in) and, where `bias` says so, bias (out,). Values are the owner's to set."""

    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return functional.linear(x, self.weight, self.bias)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored weight, without the bias."""
        return self.weight.nbytes

    def dequantize(self) -> Tensor:
        """The weight as (out, in) numbers."""
        return self.weight
