"""Chunked cross-attention (Borgeaud et al. 2022, RETRO, arXiv 2112.04426): tokens attend to their chunk's neighbours.

A text is cut into chunks, and neighbours are retrieved for each whole chunk. So the first token that may know of chunk
u's is its own last one: with chunks of m tokens, position p attends to the neighbours of chunk (p - m + 1) // m, and
the first m - 1 positions attend to nothing. Unusual: the output projection begins as zeros, so that a trained decoder
into which this is put is at first unchanged; and any number of tokens can be run from any position on, as in decoding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.nn.block import INIT_STD
from octavo.nn.config import NormConfig
from octavo.nn.linear import Linear
from octavo.nn.norms import make_norm


@dataclass(frozen=True)
class ChunkedAttentionConfig:
    """neighbour_size: features of the neighbours' encoded tokens. chunk_size: m above."""

    hidden_size: int
    neighbour_size: int
    num_heads: int
    head_dim: int
    norm: NormConfig
    chunk_size: int = 64


@dataclass(frozen=True)
class Neighbours:
    """What was retrieved for each whole chunk of a text, encoded.

    states: (batch, chunks, neighbours, tokens, neighbour_size). mask: (batch, chunks, neighbours, tokens) bool, false
    at padding; None: there is none. A chunk without any gives its tokens nothing.
    """

    states: Tensor
    mask: Tensor | None = None


class ChunkedCrossAttention(nn.Module):
    """norm: of the tokens; q: of the tokens; k, v: of the neighbours; o: back, zeros at first."""

    def __init__(self, config: ChunkedAttentionConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        size = config.num_heads * config.head_dim
        self.norm = make_norm(config.norm, config.hidden_size)
        self.q = Linear(config.hidden_size, size, bias=False)
        self.k = Linear(config.neighbour_size, size, bias=False)
        self.v = Linear(config.neighbour_size, size, bias=False)
        self.o = Linear(size, config.hidden_size, bias=False)
        self.init_weights(seed)

    @torch.no_grad()
    def init_weights(self, seed: int = 0) -> None:
        """q, k, v: N(0, 0.02); the norm does nothing yet, and neither does the output."""
        generator = torch.Generator(self.o.weight.device).manual_seed(seed)
        for name, parameter in self.norm.named_parameters():
            parameter.fill_(0 if name == "bias" or self.config.norm.offset else 1)
        for layer in (self.q, self.k, self.v):
            layer.weight.normal_(0, INIT_STD, generator=generator)
        self.o.weight.zero_()

    def forward(self, x: Tensor, neighbours: Neighbours, *, start: int = 0) -> Tensor:
        """What is to be added to x: (batch, tokens, hidden_size), at positions from `start` on -> the same.

        neighbours: of the text's chunks from its beginning on; tokens past the last chunk's reach get zeros.
        """
        chunk, (batch, tokens, _) = self.config.chunk_size, x.shape
        chunks = neighbours.states.shape[1]
        begin = max(start, chunk - 1)
        end = min(start + tokens, chunk - 1 + chunks * chunk)
        if begin >= end:
            return torch.zeros_like(x)
        first, before = divmod(begin - (chunk - 1), chunk)
        groups = -(-(before + end - begin) // chunk)
        after = groups * chunk - before - (end - begin)
        reached = functional.pad(x[:, begin - start : end - start], (0, 0, before, after))
        rows = reached.reshape(batch * groups, chunk, -1)  # one row a chunk, shifted by chunk - 1
        mixed = self._attend(rows, neighbours, slice(first, first + groups)).view(batch, groups * chunk, -1)
        inner = mixed[:, before : before + end - begin]
        return functional.pad(inner, (0, 0, begin - start, start + tokens - end))

    def _attend(self, rows: Tensor, neighbours: Neighbours, chunks: slice) -> Tensor:
        """rows: (batch * chunks, chunk_size, hidden_size) -> the same, from all neighbours' tokens of each chunk."""
        states = neighbours.states[:, chunks].flatten(2, 3).flatten(0, 1)  # (batch * chunks, keys, neighbour_size)
        q, k, v = self._heads(self.q(self.norm(rows))), self._heads(self.k(states)), self._heads(self.v(states))
        seen = None
        if neighbours.mask is not None:
            mask = neighbours.mask[:, chunks].flatten(2, 3).flatten(0, 1)
            there = mask.any(-1)
            seen = (mask | ~there[:, None])[:, None, None]  # an empty row would be no softmax
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=1 / math.sqrt(q.shape[-1]))
        result: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return result if neighbours.mask is None else result * there[:, None, None]

    def _heads(self, x: Tensor) -> Tensor:
        """(rows, tokens, heads * head_dim) -> (rows, heads, tokens, head_dim)."""
        return x.view(*x.shape[:2], self.config.num_heads, self.config.head_dim).transpose(1, 2)
