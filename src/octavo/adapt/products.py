"""A frozen matrix and its low-rank pair as one product: [W | s B] [x ; A x].

Unusual: s B is written beside W, in memory that holds both, so that what the pair adds is summed inside the product,
and the way back gives the gradients of x and of A x at once. The matrix's product and the pair's with a sum between
them would go over every output once more, in each direction. Of the frozen matrix no gradient is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from octavo.nn.fused.applying import expect, kernels
from octavo.nn.linear import JointLinear


class Paired(Protocol):
    """A layer and the pair beside it."""

    base: nn.Module
    lora_a: nn.Parameter
    lora_b: nn.Parameter
    scale: float


class Products:
    """Layers that read the same, some with a pair, in one product.

    Their weights become views of the memory that holds all; who moves or replaces them is followed.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._bases: list[Any] = [getattr(layer, "base", layer) for layer in layers]
        self._pairs: list[Any] = [layer if hasattr(layer, "lora_a") else None for layer in layers]
        self._sizes = [len(base.weight) for base in self._bases]
        self._width = self._bases[0].weight.shape[1]
        self._memory = torch.empty(0)

    def takes(self, x: Tensor) -> bool:
        """Whether the weights are of the type that x is multiplied in."""
        return all(base.weight.dtype == product_dtype(x) for base in self._bases)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> what the layers give, one after another, (..., the sum of their outs)."""
        pairs = [pair for pair in self._pairs if pair is not None]
        lora_a = torch.cat([pair.lora_a for pair in pairs]) if len(pairs) > 1 else pairs[0].lora_a
        biases = [base.bias for base in self._bases if base.bias is not None]
        bias = torch.cat(biases) if biases else None
        given: Tensor = _Product.apply(x, lora_a, self._up(), self.wide(), bias)  # type: ignore[no-untyped-call]
        return given

    def of_gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """The same of silu(gate) * up; of one layer without a bias."""
        given: Tensor = _GatedProduct.apply(gate, up, self._pairs[0].lora_a, self._up(), self.wide())  # type: ignore[no-untyped-call]
        return given

    def _up(self) -> Tensor:
        """s B of all layers, (sum of outs, sum of ranks), 0 where a layer's rows meet another's pair."""
        blank = self._bases[0].weight.new_empty
        parts = [
            blank(size, 0, dtype=torch.float32) if pair is None else pair.lora_b * pair.scale
            for size, pair in zip(self._sizes, self._pairs, strict=True)
        ]
        up: Tensor = parts[0] if len(parts) == 1 else torch.block_diag(*parts)  # type: ignore[no-untyped-call]
        return up

    @torch.no_grad()
    def wide(self) -> Tensor:
        """[W | room for s B], (sum of outs, in + sum of ranks)."""
        if not self._is_current():
            ranks = sum(len(pair.lora_a) for pair in self._pairs if pair is not None)
            self._memory = self._bases[0].weight.new_empty(sum(self._sizes), self._width + ranks)
            for base, rows in zip(self._bases, torch.split(self._memory, self._sizes), strict=True):
                weight = rows[:, : self._width].copy_(base.weight)
                base.weight = nn.Parameter(weight, requires_grad=False)
        return self._memory

    def _is_current(self) -> bool:
        """Whether the layers' weights lie in it."""
        rows = torch.split(self._memory, self._sizes) if len(self._memory) else ()
        places = ((part.data_ptr(), part.dtype) for part in rows)
        return [(base.weight.data_ptr(), base.weight.dtype) for base in self._bases] == list(places)


class JointPairs(JointLinear):
    """Queries, keys and values with pairs, in one product, in place of `JointLinear`."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers, self._products = layers, Products(layers)
        self._sizes = self._products._sizes

    def whole(self, x: Tensor) -> Tensor:
        """(..., in) -> what the layers give, one after another."""
        if any(getattr(layer, "is_apart", False) for layer in self._layers) or not self._products.takes(x):
            return torch.cat([layer(x) for layer in self._layers], dim=-1)
        return self._products(x)


def product_dtype(x: Tensor) -> torch.dtype:
    """What type x is multiplied in."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lora_a: Tensor, up: Tensor, wide: Tensor, bias: Tensor | None) -> Tensor:
        wide[:, x.shape[-1] :] = up
        with torch.autocast(x.device.type, enabled=False):
            rows, narrow = x.flatten(0, -2).to(wide.dtype), lora_a.to(wide.dtype)
            low = rows @ narrow.T
            ctx.save_for_backward(rows, narrow, low)
            ctx.wide, ctx.given = wide, x.dtype  # not a saved tensor: the next pass writes the same up into it
            bias = None if bias is None else bias.to(wide.dtype)
            return functional.linear(torch.cat((rows, low), dim=-1), wide, bias).view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, narrow, low = ctx.saved_tensors
        width, shape = rows.shape[-1], gradient.shape[:-1]
        gradient = gradient.flatten(0, -2)
        if not ctx.needs_input_grad[0]:
            dlow = gradient @ ctx.wide[:, width:]
            return None, (dlow.T @ rows).float(), (gradient.T @ low).float(), None, None
        both = gradient @ ctx.wide
        dlow = both[:, width:]
        dx = torch.addmm(both[:, :width], dlow, narrow).to(ctx.given).view(*shape, width)
        return dx, (dlow.T @ rows).float(), (gradient.T @ low).float(), None, None


class _GatedProduct(torch.autograd.Function):
    """As `nn.fused.gated_mlp`: silu(gate) * up is not kept, but made again in the pass that makes their gradients."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, lora_a: Tensor, lora_up: Tensor, wide: Tensor) -> Tensor:
        expect(up, gate.shape, gate.dtype)
        gate, up = gate.contiguous(), up.contiguous()
        wide[:, gate.shape[-1] :] = lora_up
        product = torch.empty_like(gate)
        addresses = gate.data_ptr(), up.data_ptr(), product.data_ptr(), None, None
        kernels().run("octavo_gate", *addresses, gate.dtype == torch.bfloat16, gate.numel(), False)
        with torch.autocast("cpu", enabled=False):
            rows, narrow = product.flatten(0, -2), lora_a.to(wide.dtype)
            low = rows @ narrow.T
            ctx.save_for_backward(gate, up, narrow, low)
            ctx.wide = wide
            return (torch.cat((rows, low), dim=-1) @ wide.T).view(*gate.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, narrow, low = ctx.saved_tensors
        width, gradient = gate.shape[-1], gradient.flatten(0, -2)
        both = gradient @ ctx.wide
        dlow = both[:, width:]
        product = torch.addmm(both[:, :width], dlow, narrow)  # its gradient yet
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        addresses = gate.data_ptr(), up.data_ptr(), product.data_ptr(), dgate.data_ptr(), dup.data_ptr()
        kernels().run("octavo_gate", *addresses, gate.dtype == torch.bfloat16, gate.numel(), True)
        return dgate, dup, (dlow.T @ product).float(), (gradient.T @ low).float(), None
