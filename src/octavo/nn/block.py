"""One block: attention and MLP, each adding to x, and between them cross-attention where the model reads a memory.

Where the norms stand is a switch (`placement`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from octavo.nn.attention import Attend, Attention, LatentAttention
from octavo.nn.config import TransformerConfig
from octavo.nn.mlp import Mlp
from octavo.nn.moe import Moe
from octavo.nn.norms import RmsNorm, make_norm
from octavo.nn.shapes import block_norms, memory_size

INIT_STD = 0.02
Memory = tuple[Tensor, Tensor, Tensor | None]
"""What a block reads of an encoder's output: keys and values, (batch, kv_heads, tokens, head_dim), and a mask."""


class Block(nn.Module):
    """attention_norm, attention, attention_output_norm, mlp_norm, mlp, mlp_output_norm; a norm may be None."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        norms, width = block_norms(config, layer), config.hidden_size

        def norm(name: str) -> nn.Module | None:
            return make_norm(config.norm, width) if name in norms else None

        self.post = config.placement == "post"
        self.parallel = config.placement in ("parallel", "parallel_two")
        self.residual_scale = config.residual_scale
        self.attention_norm = norm("attention_norm")
        self.attention = (Attention if config.attention.latent is None else LatentAttention)(config, layer)
        self.attention_output_norm = norm("attention_output_norm")
        self.cross_attention_norm = norm("cross_attention_norm")
        self.cross_attention = Attention(config, layer, memory_size(config)) if config.reads_memory(layer) else None
        self.cross_attention_output_norm = norm("cross_attention_output_norm")
        self.mlp_norm = norm("mlp_norm")
        moe = config.moe_of(layer)
        self.mlp = Mlp(config.mlp, width) if moe is None else Moe(moe, config.mlp, width)
        self.mlp_output_norm = norm("mlp_output_norm")
        for reads in (self.attention_norm, self.mlp_norm):
            if isinstance(reads, RmsNorm):
                reads.feeds_products = True

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend, memory: Memory | None = None
    ) -> Tensor:
        """(batch, tokens, hidden_size) -> the same. memory: given where the model has one."""
        if self.parallel:
            normed = _apply(self.attention_norm, x)
            wide = normed if self.mlp_norm is None else self.mlp_norm(x)
            return self._add(x, self.attention(normed, rotary, attend) + self.mlp(wide))
        return self.transform(self._read(self.attend(x, rotary, attend), memory))

    def attend(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """The first part of a block that is not parallel: x with what attention adds."""
        mixed = self.attention(_apply(self.attention_norm, x), rotary, attend)
        if self.post:
            return _apply(self.attention_output_norm, self._add(x, mixed))
        return self._add(x, _apply(self.attention_output_norm, mixed))

    def transform(self, x: Tensor) -> Tensor:
        """The last part: x with what the MLP adds."""
        if self.post:
            return _apply(self.mlp_output_norm, self._add(x, self.mlp(x)))
        return self._add(x, _apply(self.mlp_output_norm, self.mlp(_apply(self.mlp_norm, x))))

    def _read(self, x: Tensor, memory: Memory | None) -> Tensor:
        if self.cross_attention is None:
            return x
        assert memory is not None, "the model reads a memory"
        read = self.cross_attention.read(_apply(self.cross_attention_norm, x), *memory)
        return _apply(self.cross_attention_output_norm, self._add(x, read))

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        return x + branch if self.residual_scale == 1 else x + branch * self.residual_scale


@torch.no_grad()
def init_weights(module: nn.Module, layers: int, *, offset: bool, seed: int) -> None:
    """Fresh weights (Radford et al. 2019): N(0, 0.02), the outputs into the residual divided by sqrt(2 layers).

    Norms do nothing yet. offset: their weights are applied as 1 + weight.
    """
    generator = torch.Generator(next(module.parameters()).device).manual_seed(seed)
    for name, parameter in module.named_parameters():
        if name.endswith(("bias", "sinks")):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(0 if offset else 1)
        else:
            into_residual = name.endswith(("attention.o.weight", ".down.weight"))
            parameter.normal_(0, INIT_STD / math.sqrt(2 * layers if into_residual else 1), generator=generator)


def _apply(norm: nn.Module | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
