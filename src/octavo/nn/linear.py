"""`Linear`: a matrix as a layer. The one place where a block meets how its weights are stored.

Adaptation wraps a `Linear` and quantisation replaces it; both offer `forward`, `nbytes` and `dequantize`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle


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


class LowRankRows:
    """What low-rank adapters (Hu et al. 2021, arXiv 2106.09685) add to Linears, to each token by its own adapter.

    tokens: adapter -> indices of its tokens; empty: nothing is added. Linears stay as they are: hooks add to what they
    give, until `remove`.
    """

    def __init__(self) -> None:
        self.tokens: Mapping[int, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def attach(self, linear: nn.Module, pairs: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """pairs: adapter -> down (rank, in) and up (out, rank)."""

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            for adapter, index in self.tokens.items():
                if adapter in pairs:
                    down, up = pairs[adapter]
                    added = functional.linear(functional.linear(inputs[0][:, index].type_as(down), down), up)
                    output = output.index_add(1, index, added.type_as(output))
            return output

        self._hooks.append(linear.register_forward_hook(add))

    def remove(self) -> None:
        """Take all hooks off."""
        for hook in self._hooks:
            hook.remove()
