"""The position-wise MLP: plain, down(act(up(x))), or gated, down(act(gate(x)) * up(x)).

Source of the gate: Shazeer 2020 (arXiv 2002.05202).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.nn.config import Activation, MlpConfig
from octavo.nn.fused import gated_mlp
from octavo.nn.linear import JointLinear, Linear

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": functional.relu,
    "relu_squared": lambda x: functional.relu(x).square(),
}


class Mlp(nn.Module):
    """gate, up: hidden_size -> intermediate_size; down: back. gate is None in a plain MLP."""

    def __init__(self, config: MlpConfig, hidden_size: int) -> None:
        super().__init__()
        self.limit = config.limit
        self.activation = ACTIVATIONS[config.activation]
        self.gate = Linear(hidden_size, config.intermediate_size, bias=config.bias) if config.gated else None
        self.up = Linear(hidden_size, config.intermediate_size, bias=config.bias)
        self.down = Linear(config.intermediate_size, hidden_size, bias=config.bias)
        self._joint: JointLinear | None = None

    def join(self) -> None:
        """Make gate and up in one product from now on, where there are both and their weights allow it."""
        if JointLinear.joins((self.gate, self.up)):
            self._joint = JointLinear((self.gate, self.up))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> (..., hidden_size)."""
        if self.gate is None:
            return self.down(self.activation(self.up(x)))  # type: ignore[no-any-return]
        gate, up = (self.gate(x), self.up(x)) if self._joint is None else self._joint(x)
        if self._is_fused(gate, up):
            return gated_mlp.gated_product(gate, up, self.down.weight)
        if self.limit is not None:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit) + 1
        wide = self.activation(gate) * up
        return self.down(wide)  # type: ignore[no-any-return]

    def _is_fused(self, gate: Tensor, up: Tensor) -> bool:
        """Whether one operation does the rest: in training, of the usual kind, and nothing is added to the product."""
        plain = type(self.down) is Linear and self.down.bias is None and not self.down._forward_hooks
        usual = self.limit is None and self.activation is ACTIVATIONS["silu"]
        return self.training and plain and usual and gated_mlp.usable(gate, up, self.down.weight)
