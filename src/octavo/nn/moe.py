"""A mixture of experts in place of the MLP: each token goes to the few experts that its router scores highest.

Unusual: an expert is an `Mlp` of its own, so that it is stored, adapted and quantised as any other. Source: Shazeer et
al. 2017 (arXiv 1701.06538); Jiang et al. 2024 (arXiv 2401.04088); the gated shared expert is Qwen's (arXiv 2407.10671),
groups and the corrected choice are DeepSeek's (arXiv 2405.04434, 2412.19437).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from octavo.nn.config import MlpConfig, MoeConfig
from octavo.nn.linear import Linear
from octavo.nn.mlp import Mlp


class Moe(nn.Module):
    """router: hidden_size -> num_experts; experts, shared: as `Mlp`. What a config does not ask for is None."""

    correction_bias: nn.Parameter | None

    def __init__(self, moe: MoeConfig, mlp: MlpConfig, hidden_size: int) -> None:
        super().__init__()
        self.config = moe
        self.router = Linear(hidden_size, moe.num_experts, bias=moe.bias)
        correction = nn.Parameter(torch.empty(moe.num_experts)) if moe.correction else None
        self.register_parameter("correction_bias", correction)
        one = replace(mlp, intermediate_size=moe.intermediate_size)
        self.experts = nn.ModuleList(Mlp(one, hidden_size) for _ in range(moe.num_experts))
        shared = None if moe.shared_size is None else replace(mlp, intermediate_size=moe.shared_size)
        self.shared = None if shared is None else Mlp(shared, hidden_size)
        self.shared_gate = Linear(hidden_size, 1, bias=False) if shared is not None and moe.shared_gate else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden_size) -> (..., hidden_size)."""
        tokens = x.flatten(0, -2)  # (n, hidden_size)
        scores, chosen = self._route(tokens)
        mixed = torch.zeros_like(tokens)
        for index in sorted(set(chosen.flatten().tolist())):
            rows, places = torch.where(chosen == index)
            score = scores[rows, places, None]
            if self.config.scale_input:
                answer = self.experts[index]((tokens[rows] * score).type_as(tokens))
            else:
                answer = self.experts[index](tokens[rows]) * score
            mixed = mixed.index_add(0, rows, answer.type_as(mixed))
        if self.shared is not None:
            gate = 1 if self.shared_gate is None else self.shared_gate(tokens).sigmoid()
            mixed = mixed + gate * self.shared(tokens)
        return mixed.view_as(x)

    def _route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(n, hidden_size) -> the chosen experts' scores and numbers, both (n, experts_per_token)."""
        logits = self.router(tokens).float()
        if self.config.scoring == "sparse_mixer":
            return self._mixed(logits)
        scores = logits.softmax(-1) if self.config.scoring == "softmax" else logits.sigmoid()
        ranks = scores if self.correction_bias is None else scores + self.correction_bias
        if self.config.groups > 1:
            ranks = ranks.masked_fill(~self._kept(ranks), -math.inf)
        chosen = ranks.topk(self.config.experts_per_token, dim=-1).indices
        scores = scores.gather(-1, chosen)
        if self.config.normalise:
            scores = scores / (scores.sum(-1, keepdim=True) + 1e-20)
        return scores * self.config.scale, chosen

    def _mixed(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """As `_route`, one expert after the other (Liu et al. 2024, arXiv 2409.12136)."""
        shares, chosen = [], []
        for _ in range(self.config.experts_per_token):
            most, best = logits.max(-1, keepdim=True)
            far = (most - logits) / torch.maximum(logits.abs(), most) > 2 * self.config.jitter
            shares.append(logits.masked_fill(far, -math.inf).softmax(-1).gather(-1, best))
            chosen.append(best)
            logits = logits.scatter(-1, best, -math.inf)
        return torch.cat(shares, dim=-1), torch.cat(chosen, dim=-1)

    def _kept(self, ranks: Tensor) -> Tensor:
        """Which experts are in the groups of the best (n, num_experts) bool."""
        groups = ranks.view(len(ranks), self.config.groups, -1)
        best = groups.topk(self.config.group_top, dim=-1).values.sum(-1).topk(self.config.groups_kept, dim=-1).indices
        kept = torch.zeros(groups.shape[:-1], dtype=torch.bool, device=ranks.device).scatter(-1, best, True)
        return kept[..., None].expand_as(groups).flatten(-2)
