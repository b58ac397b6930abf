"""A mixture of experts in place of the MLP: each token goes to the few experts that its router scores highest.

Unusual: an expert is an `Mlp` of its own, so that it is stored, adapted and quantised as any other. Source: Shazeer et
al. 2017 (arXiv 1701.06538); Jiang et al. 2024 (arXiv 2401.04088); the shared expert is Qwen's (arXiv 2407.10671).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from octavo.nn.config import MlpConfig, MoeConfig
from octavo.nn.linear import Linear
from octavo.nn.mlp import Mlp


class Moe(nn.Module):
    """router: hidden_size -> num_experts; experts: as `Mlp`; shared, shared_gate: None without a shared expert."""

    shared: Mlp | None
    shared_gate: Linear | None

    def __init__(self, moe: MoeConfig, mlp: MlpConfig, hidden_size: int) -> None:
        super().__init__()
        self.experts_per_token = moe.experts_per_token
        self.normalise = moe.normalise
        self.router = Linear(hidden_size, moe.num_experts, bias=False)
        one = replace(mlp, intermediate_size=moe.intermediate_size)
        self.experts = nn.ModuleList(Mlp(one, hidden_size) for _ in range(moe.num_experts))
        shared = None if moe.shared_size is None else replace(mlp, intermediate_size=moe.shared_size)
        self.shared = None if shared is None else Mlp(shared, hidden_size)
        self.shared_gate = None if shared is None else Linear(hidden_size, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> (..., hidden_size)."""
        tokens = x.flatten(0, -2)  # (n, hidden_size)
        scores, chosen = self.router(tokens).float().softmax(-1).topk(self.experts_per_token, dim=-1)
        if self.normalise:
            scores = scores / scores.sum(-1, keepdim=True)
        mixed = torch.zeros_like(tokens)
        for index in chosen.unique().tolist():
            rows, places = torch.where(chosen == index)
            answer = self.experts[index](tokens[rows]) * scores[rows, places, None]
            mixed = mixed.index_add(0, rows, answer.type_as(mixed))
        if self.shared is not None and self.shared_gate is not None:
            mixed = mixed + self.shared_gate(tokens).sigmoid() * self.shared(tokens)
        return mixed.view_as(x)
