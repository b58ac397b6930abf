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


def xielu(x: Tensor, alpha_p: Tensor, alpha_n: Tensor) -> Tensor:
    """Huang 2024 (arXiv 2411.13010): alpha_p x^2 + x / 2 where x is positive, alpha_n (e^x - 1 - x) + x / 2 below.

    Both numbers lie here before softplus, alpha_n less the half that keeps it above the slope at 0.
    """
    positive, negative = functional.softplus(alpha_p), 0.5 + functional.softplus(alpha_n)
    below = (torch.expm1(x.clamp(max=-1e-6)) - x) * negative
    return torch.where(x > 0, positive * x * x, below) + 0.5 * x


class Mlp(nn.Module):
    """gate, up: hidden_size -> intermediate_size; down: back. gate is None in a plain MLP.

    alpha_p, alpha_n: (1,), of xIELU, else None.
    """

    alpha_p: nn.Parameter | None
    alpha_n: nn.Parameter | None

    def __init__(self, config: MlpConfig, hidden_size: int) -> None:
        super().__init__()
        self.limit = config.limit
        learned = config.activation == "xielu"
        for name in ("alpha_p", "alpha_n"):
            self.register_parameter(name, nn.Parameter(torch.empty(1)) if learned else None)
        self.activation = self._xielu if learned else ACTIVATIONS[config.activation]
        self.gate = Linear(hidden_size, config.intermediate_size, bias=config.bias is True) if config.gated else None
        self.up = Linear(hidden_size, config.intermediate_size, bias=config.bias is True)
        self.down = Linear(config.intermediate_size, hidden_size, bias=bool(config.bias))
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
            return self.down.of_gated(gate, up)
        if self.limit is not None:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit) + 1
        wide = self.activation(gate) * up
        return self.down(wide)  # type: ignore[no-any-return]

    def _xielu(self, x: Tensor) -> Tensor:
        assert self.alpha_p is not None and self.alpha_n is not None, "xIELU has its numbers"
        return xielu(x, self.alpha_p, self.alpha_n)

    def _is_fused(self, gate: Tensor, up: Tensor) -> bool:
        """Whether one operation does the rest: in training, of the usual kind, and nothing is added to the product."""
        plain = self.down.bias is None and not self.down._forward_hooks
        usual = self.limit is None and self.activation is ACTIVATIONS["silu"]
        return self.training and plain and usual and gated_mlp.usable(gate, up, self.down.weight)
