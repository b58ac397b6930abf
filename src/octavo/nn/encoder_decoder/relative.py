"""Distances in buckets: a learned bias of each (Raffel et al. 2019, arXiv 1910.10683, section 2.1), or a vector of each
(He et al. 2021, arXiv 2111.09543) that `Attention` makes keys and queries of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from octavo.nn.config import DisentangledConfig, NormConfig, RelativeConfig
from octavo.nn.norms import make_norm


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


class Distances(nn.Module):
    """weight: (2 * buckets, hidden_size), those of keys behind the query last; norm: what they are read through."""

    def __init__(self, config: DisentangledConfig, norm: NormConfig, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2 * config.buckets, width))
        self.norm = make_norm(norm, width)
        self._config = config

    def forward(self, tokens: int) -> tuple[Tensor, Tensor]:
        """The vectors (2 * buckets, hidden_size), and which is whose of each query and key (tokens, tokens)."""
        place = torch.arange(tokens, device=self.weight.device)
        buckets = self._config.buckets
        found = self._buckets(place[:, None] - place) + buckets
        return self.norm(self.weight), found.clamp(0, 2 * buckets - 1)

    def _buckets(self, distance: Tensor) -> Tensor:
        """query - key -> bucket, negative for keys after the query."""
        exact, away = self._config.buckets // 2, distance.abs()
        growth = torch.log(away.clamp(min=1) / exact) / math.log((self._config.max_distance - 1) / exact)
        wide = torch.ceil(growth * (exact - 1)).long() + exact
        return torch.where(away <= exact, distance, wide * distance.sign())
