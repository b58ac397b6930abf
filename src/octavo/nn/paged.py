"""Keys and values in blocks of positions (Kwon et al. 2023, arXiv 2309.06180), for the torch runner.

Unusual: who may use which block is decided elsewhere; here a position is a slot, block * block_size + offset, and a
step writes its slots and reads those of each row. Rows of any lengths share a step; none sees another's blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from octavo.nn.config import TransformerConfig
from octavo.nn.scoring import Scoring, scaled_attention
from octavo.nn.shapes import kept_key


class Cache(Protocol):
    """What a pass through the blocks keeps its keys and values in."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """As `nn.attention.Attend`, in one layer."""
        ...


class PagedMemory:
    """keys, values: (layers, num_blocks * block_size, kv_heads, ...), zeros that the system lends when written.

    Latent attention's values are the first features of its keys, and no memory of their own.
    """

    def __init__(
        self, config: TransformerConfig, num_blocks: int, block_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        heads, width = kept_key(config)
        shape = (config.num_layers, num_blocks * block_size, heads, width)
        self.block_size = block_size
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        latent = config.attention.latent
        self.values = torch.zeros_like(self.keys) if latent is None else self.keys[..., : latent.kv_rank]

    def slots(self, blocks: Sequence[int], count: int) -> Tensor:
        """(count,): the slots of positions 0 .. count - 1 of a row that owns `blocks`."""
        positions = np.arange(count)
        numbers = np.asarray(blocks, np.int64)[positions // self.block_size]
        return torch.from_numpy(numbers * self.block_size + positions % self.block_size).to(self.keys.device)

    def move(self, slots: Tensor, targets: Tensor) -> None:
        """Copy what lies at some slots to others, in all layers."""
        self.keys[:, targets] = self.keys[:, slots]
        if self.values.data_ptr() != self.keys.data_ptr():
            self.values[:, targets] = self.values[:, slots]


@dataclass(frozen=True)
class Span:
    """One row of a step: its tokens are begin .. end - 1 of the step's, at positions start and on; slots: 0 .. last.

    chains: of a tree, the tokens that go on from one another, with what leads to each; empty: they all do.
    """

    begin: int
    end: int
    start: int
    slots: Tensor
    chains: tuple[Chain, ...] = ()


@dataclass(frozen=True)
class Chain:
    """Tokens begin .. end - 1 of a row, which follow one another; path: the tokens before them, then they."""

    begin: int
    end: int
    path: Tensor


def chains_of(parents: Sequence[int], device: torch.device) -> tuple[Chain, ...]:
    """A tree cut into chains. parents: the token that each one follows, -1 of the first."""
    starts = [index for index, parent in enumerate(parents) if not index or parent != index - 1]
    chains = []
    for begin, end in zip(starts, [*starts[1:], len(parents)], strict=True):
        path, at = list(range(end - 1, begin - 1, -1)), parents[begin]
        while at >= 0:
            path.append(at)
            at = parents[at]
        chains.append(Chain(begin, end, torch.tensor(path[::-1], device=device)))
    return tuple(chains)


class PagedStep:
    """The `Cache` of one step: all rows' tokens lie one after another in a batch of one."""

    def __init__(self, memory: PagedMemory, spans: Sequence[Span]) -> None:
        self._memory = memory
        self._spans = spans
        self._written = torch.cat([span.slots[span.start :] for span in spans])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """q: (1, heads, tokens, head_dim); k, v: (1, kv_heads, tokens, ...) -> as q, of v's width."""
        keys, values = self._memory.keys[layer], self._memory.values[layer]  # (slots, kv_heads, head_dim)
        keys[self._written] = k[0].transpose(0, 1).type_as(keys)
        values[self._written] = v[0].transpose(0, 1).type_as(values)
        rows = [
            self._row(part, q[:, :, part.begin : part.end], keys, values, scoring)
            for span in self._spans
            for part in _alone(span)
        ]
        return torch.cat(rows, dim=2)

    @staticmethod
    def _row(span: Span, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring) -> Tensor:
        first = scoring.first_seen(span.start)
        slots = span.slots[first:]
        k, v = (memory[slots].transpose(0, 1)[None].type_as(q) for memory in (keys, values))
        return scaled_attention(q, k, v, scoring, start=span.start, first_key=first)


def _alone(span: Span) -> list[Span]:
    """A row's chains as rows of their own, each of which reads what leads to it."""
    if not span.chains:
        return [span]
    before, own = span.slots[: span.start], span.slots[span.start :]
    return [
        Span(
            span.begin + chain.begin,
            span.begin + chain.end,
            span.start + len(chain.path) - (chain.end - chain.begin),
            torch.cat((before, own[chain.path])),
        )
        for chain in span.chains
    ]
