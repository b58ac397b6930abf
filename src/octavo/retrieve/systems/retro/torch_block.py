"""A decoder block with chunked cross-attention between its attention and its MLP, as RETRO's (Borgeaud et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from octavo.errors import UnsupportedError
from octavo.nn.attention import Attend
from octavo.nn.block import Block, Memory
from octavo.retrieve.systems.retro.torch_cross_attention import ChunkedCrossAttention, Neighbours


class RetrievalBlock(nn.Module):
    """A block of a trained decoder, and what it retrieves with; without neighbours it is the block."""

    def __init__(self, block: Block, cross: ChunkedCrossAttention) -> None:
        super().__init__()
        if block.parallel:
            raise UnsupportedError("chunked cross-attention stands between attention and MLP, which are parallel here")
        self.block = block
        self.cross = cross
        self.neighbours: Neighbours | None = None
        self.start = 0
        self.begin: Callable[[Tensor], None] | None = None  # told of the states that neighbours are encoded with

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend, memory: Memory | None = None
    ) -> Tensor:
        """As `Block`, of a decoder without another memory."""
        assert memory is None, "neighbours take the memory's place"
        x = self.block.attend(x, rotary, attend)
        if self.begin is not None:
            self.begin(x)
        if self.neighbours is not None:
            x = x + self.cross(x, self.neighbours, start=self.start)
        return self.block.transform(x)


def add_retrieval(blocks: nn.ModuleList, crosses: dict[int, ChunkedCrossAttention]) -> list[RetrievalBlock]:
    """Put cross-attention into some of a decoder's blocks, by their numbers."""
    added = []
    for layer, cross in crosses.items():
        block = blocks[layer]
        assert isinstance(block, Block), "retrieval is added to plain blocks"
        blocks[layer] = RetrievalBlock(block, cross)
        added.append(blocks[layer])
    return added  # type: ignore[return-value]
