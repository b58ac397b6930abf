"""A learned bias by distance, in buckets (Raffel et al. 2019, arXiv 1910.10683, section 2.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from octavo.nn.config import RelativeConfig


class RelativeBias(nn.Module):
    """weight: (buckets, heads). causal: all buckets are for keys before the query; else half are for those after it."""

    def __init__(self, relative: RelativeConfig, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(relative.buckets, num_heads))
        self._max_distance = relative.max_distance
        self._causal = causal

    def forward(self, tokens: int, keys: int, start: int = 0) -> Tensor:
        """The bias of `tokens` queries from position `start` on, over keys from 0 on: (1, heads, tokens, keys)."""
        query = torch.arange(start, start + tokens, device=self.weight.device)
        distance = torch.arange(keys, device=self.weight.device) - query[:, None]
        return self.weight[self._buckets(distance)].permute(2, 0, 1)[None]

    def _buckets(self, distance: Tensor) -> Tensor:
        """key - query -> bucket."""
        buckets = self.weight.shape[0] // (1 if self._causal else 2)
        later = 0 if self._causal else (distance > 0).long() * buckets
        away = (-distance).clamp(min=0) if self._causal else distance.abs()
        exact = buckets // 2
        growth = torch.log(away.clamp(min=1).float() / exact) / math.log(self._max_distance / exact)
        wide = (exact + (growth * (buckets - exact)).long()).clamp(max=buckets - 1)
        return later + torch.where(away < exact, away, wide)
