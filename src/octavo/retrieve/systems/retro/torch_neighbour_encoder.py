"""RETRO's encoder of neighbours: bidirectional blocks that read the chunk a neighbour was retrieved for."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from octavo.nn.attention import Attention
from octavo.nn.block import Block, init_weights
from octavo.nn.config import EncoderConfig, TransformerConfig
from octavo.nn.norms import make_norm
from octavo.nn.rotary import cos_sin
from octavo.nn.scoring import scaled_attention


class NeighbourEncoder(nn.Module):
    """As wide as the decoder, and in its shape, with `layers` blocks; it embeds by the decoder's table."""

    def __init__(self, decoder: TransformerConfig, layers: int, *, seed: int = 0) -> None:
        super().__init__()
        config = replace(
            decoder, num_layers=layers, encoder=EncoderConfig(), embedding_norm=False, memory=decoder, moe=None,
            windows=(), rope_layers=(),
        )  # fmt: skip
        self.config = config
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(layers))
        self.norm = make_norm(config.norm, config.hidden_size)
        init_weights(self, layers, offset=config.norm.offset, seed=seed)

    def forward(self, x: Tensor, mask: Tensor, chunks: Tensor) -> Tensor:
        """x: (batch, chunks, neighbours, tokens, hidden_size), embedded -> the same, encoded.

        mask: x's, without the last axis, false at padding. chunks: (batch, chunks, chunk_size, hidden_size), the states
        of what each was retrieved for.
        """
        shape, width = x.shape, x.shape[2]
        x, mask = x.flatten(0, 2), mask.flatten(0, 2)
        asked = chunks.flatten(0, 1).repeat_interleave(width, dim=0)
        positions = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        rotary = None if self.config.rope is None else cos_sin(self.config.rope, positions, None)
        attend = partial(scaled_attention, mask=mask)
        for block in self.blocks:
            reader = block.get_submodule("cross_attention")
            assert isinstance(reader, Attention), "each block reads the chunk"
            x = block(x, rotary, attend, (*reader.keys_values(asked), None))
        result: Tensor = self.norm(x).view(shape)
        return result
