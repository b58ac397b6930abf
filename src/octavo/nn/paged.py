"""Keys and values in blocks of positions (Kwon et al. 2023, arXiv 2309.06180), for the torch runner.

Unusual: who may use which block is decided elsewhere; here a position is a slot, block * block_size + offset, and a
step writes its slots and reads those of each row. Rows of any lengths share a step; none sees another's blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from octavo.nn.config import TransformerConfig
from octavo.nn.scoring import Scoring, attention_where, grown, one_query, positions_of, scaled_attention
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
    """Tokens begin .. end - 1 of a step, which follow one another.

    slots: where the keys and values lie of all that lead to them, from position 0 on, and then theirs.
    """

    begin: int
    end: int
    slots: Tensor


def chains(tree: Span, parents: Sequence[int]) -> list[Span]:
    """A row that is a tree, cut into tokens that do follow one another. parents: the token of the row that each one
    follows, -1 of the first."""
    starts = [index for index, parent in enumerate(parents) if not index or parent != index - 1]
    before, own = tree.slots[: -len(parents)], tree.slots[-len(parents) :]
    spans = []
    for begin, end in zip(starts, [*starts[1:], len(parents)], strict=True):
        path, at = list(range(end - 1, begin - 1, -1)), parents[begin]
        while at >= 0:
            path.append(at)
            at = parents[at]
        slots = torch.cat((before, own[torch.tensor(path[::-1], device=own.device)]))
        spans.append(Span(tree.begin + begin, tree.begin + end, slots))
    return spans


class PagedStep:
    """The `Cache` of one step: all rows' tokens lie one after another in a batch of one."""

    def __init__(self, memory: PagedMemory, spans: Sequence[Span]) -> None:
        self._memory = memory
        self._spans = spans
        self._written = torch.cat([span.slots[span.begin - span.end :] for span in spans])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """q: (1, heads, tokens, head_dim); k, v: (1, kv_heads, tokens, ...) -> as q, of v's width."""
        keys, values = self._memory.keys[layer], self._memory.values[layer]  # (slots, kv_heads, head_dim)
        keys[self._written] = k[0].transpose(0, 1).type_as(keys)
        values[self._written] = v[0].transpose(0, 1).type_as(values)
        return torch.cat([self._row(span, q, keys, values, scoring) for span in self._spans], dim=2)

    @staticmethod
    def _row(span: Span, q: Tensor, keys: Tensor, values: Tensor, scoring: Scoring) -> Tensor:
        q, start = q[:, :, span.begin : span.end], len(span.slots) - (span.end - span.begin)
        first = scoring.first_seen(start)
        k, v = (memory[span.slots[first:]].transpose(0, 1)[None].type_as(q) for memory in (keys, values))
        return scaled_attention(q, k, v, scoring, start=start, first_key=first)


class PagedDecode:
    """The `Cache` of a step in which each row runs one token: the rows are a batch, and their keys end together.

    Unusual: nothing here asks the device for a number, so that a GPU may record the step and repeat it with others.
    """

    def __init__(self, memory: PagedMemory, blocks: Tensor, positions: Tensor) -> None:
        """blocks: (rows, n) integers, those of each row, then anything; positions: (rows, 1), of the tokens."""
        self._memory = memory
        count = blocks.shape[1] * memory.block_size
        places = torch.arange(1 - count, 1, device=blocks.device) + positions  # (rows, keys); the last is the token's
        self._mask = places >= 0
        self._places, self._positions = places, positions
        places = places.clamp(min=0)
        numbers = blocks.gather(1, places // memory.block_size)
        self._slots = numbers * memory.block_size + places % memory.block_size
        dtype = memory.keys.dtype
        self._bias = torch.zeros((), dtype=dtype, device=blocks.device).where(self._mask, -math.inf)[:, None, None]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring) -> Tensor:
        """q: (rows, heads, 1, head_dim); k, v: (rows, kv_heads, 1, ...) -> as q, of v's width."""
        keys, values = self._memory.keys[layer], self._memory.values[layer]
        count = self._slots.shape[1]
        first = max(0, count - (scoring.window or count))
        slots, mask, bias = self._slots[:, first:], self._mask[:, first:], self._bias[..., first:]
        if scoring.chunked and scoring.window is not None:
            mask = mask & (self._places[:, first:] >= self._positions // scoring.window * scoring.window)
            bias = bias.masked_fill(~mask[:, None, None], -math.inf)
        if scoring.growth is not None:
            q = grown(q, scoring.growth, self._positions)
        keys[slots[:, -1]] = k[:, :, 0].type_as(keys)
        values[slots[:, -1]] = v[:, :, 0].type_as(values)
        k, v = (kept[slots].transpose(1, 2).type_as(q) for kept in (keys, values))
        if scoring.softcap is None and scoring.sinks is None and not scoring.slopes:
            return one_query(q, k, v, scoring.scale, bias)
        positions = positions_of(slots.shape[1], mask, q.device) if scoring.slopes else None
        return attention_where(q, k, v, scoring, mask[:, None, None], positions)
