"""A run of a decoder that retrieves: neighbours are encoded as soon as their chunk's own states are known.

RETRO's encoder reads a neighbour beside the states of the chunk that it was retrieved for, those at the first block
with chunked cross-attention, after its attention (Borgeaud et al. 2022, algorithm 1). Unusual: whole texts and single
tokens run the same way, so that decoding is training a token at a time: a chunk's neighbours are handed in once its
last token is, and are encoded when that token reaches the first such block.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from octavo.retrieve.systems.retro.torch_block import RetrievalBlock
from octavo.retrieve.systems.retro.torch_cross_attention import Neighbours


class RetrievalSession:
    """Enter it, hand neighbours in, run tokens in order; leaving it makes the blocks plain again."""

    def __init__(self, blocks: Sequence[RetrievalBlock], encoder: nn.Module) -> None:
        """blocks: by their place in the decoder. encoder: a `NeighbourEncoder`."""
        self._blocks = blocks
        self._encoder = encoder
        self._chunk = blocks[0].cross.config.chunk_size
        self._retrieved: list[tuple[Tensor, Tensor]] = []
        self._states: list[Tensor] = []
        self._encoded: list[Tensor] = []
        self._position = 0

    def __enter__(self) -> Self:
        self._blocks[0].begin = self._begin
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._blocks[0].begin = None
        for block in self._blocks:
            block.neighbours, block.start = None, 0

    def retrieve(self, x: Tensor, mask: Tensor) -> None:
        """The next chunk's neighbours, embedded. x: (batch, neighbours, tokens, hidden_size). mask: of padding."""
        self._retrieved.append((x, mask))

    def _begin(self, x: Tensor) -> None:
        """The first block's states, (batch, tokens, hidden_size), of the tokens that are run now."""
        self._states.append(x)
        states = torch.cat(self._states, dim=1)
        done = len(self._encoded)
        ready = min(states.shape[1] // self._chunk, len(self._retrieved))
        if ready > done:
            chunks = states[:, done * self._chunk : ready * self._chunk]
            chunks = chunks.view(len(chunks), ready - done, self._chunk, -1)
            found = torch.stack([x for x, _ in self._retrieved[done:ready]], dim=1)
            mask = torch.stack([mask for _, mask in self._retrieved[done:ready]], dim=1)
            self._encoded += list(self._encoder(found, mask, chunks).unbind(1))
        self._states = [states]
        neighbours = None
        if self._encoded:
            masks = torch.stack([mask for _, mask in self._retrieved[: len(self._encoded)]], dim=1)
            neighbours = Neighbours(torch.stack(self._encoded, dim=1), masks)
        for block in self._blocks:
            block.neighbours, block.start = neighbours, self._position
        self._position += x.shape[1]
