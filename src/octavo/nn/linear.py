"""`Linear`: a matrix as a layer. The one place where a block meets how its weights are stored.

Adaptation wraps a `Linear` and quantisation replaces it; both offer `forward`, `nbytes` and `dequantize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from octavo.nn.fused import gated_mlp


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

    def of_gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """self(silu(gate) * up) as one operation, where `gated_mlp.usable` and without a bias."""
        return gated_mlp.gated_product(gate, up, self.weight)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored weight, without the bias."""
        return self.weight.nbytes

    def dequantize(self) -> Tensor:
        """The weight as (out, in) numbers."""
        return self.weight


class JointLinear:
    """Several Linears that read the same, as one product. Their weights become views of its rows: nothing is stored
    twice, and what is written into them is seen here. For running, not for training."""

    @torch.no_grad()
    def __init__(self, linears: Sequence[nn.Module]) -> None:
        parts = [linear for linear in linears if isinstance(linear, Linear)]
        self._sizes = [len(part.weight) for part in parts]
        self._weight = torch.cat(tuple(part.weight for part in parts))
        biases = [part.bias for part in parts if part.bias is not None]
        self._bias = torch.cat(tuple(biases)) if biases else None
        for part, weight in zip(parts, torch.split(self._weight, self._sizes), strict=True):
            part.weight = nn.Parameter(weight, requires_grad=False)
        if self._bias is not None:
            for part, bias in zip(parts, torch.split(self._bias, self._sizes), strict=True):
                part.bias = nn.Parameter(bias, requires_grad=False)

    @staticmethod
    def joins(linears: Sequence[nn.Module | None]) -> bool:
        """Whether they can be joined: dense, and none a part of something larger, as what lies in a file's pages is."""
        return all(
            type(each) is Linear and each.weight.untyped_storage().nbytes() == each.weight.nbytes for each in linears
        )

    def whole(self, x: Tensor) -> Tensor:
        """(..., in) -> what the Linears give, one after another, (..., the sum of their outs)."""
        return functional.linear(x, self._weight, self._bias)

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """(..., in) -> what each Linear gives, (..., its out)."""
        return torch.split(self.whole(x), self._sizes, dim=-1)


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
