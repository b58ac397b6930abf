"""Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434): what is kept of a token is one small vector.

Unusual: the matrices that would make all heads' keys and values of the latent vector are multiplied into the queries
and into what comes out, so that heads attend over latent vectors themselves: multi-query attention, with less memory
and more multiplications than its expanded form. The numbers are those of the expanded form, but for rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octavo.nn.attention import Attend
from octavo.nn.config import TransformerConfig
from octavo.nn.linear import Linear
from octavo.nn.norms import RmsNorm
from octavo.nn.rotary import rotate
from octavo.nn.scoring import Scoring
from octavo.nn.shapes import LATENT_NORM_EPS


class LatentAttention(nn.Module):
    """q, or q_a, q_a_norm and q_b: -> heads * head_dim. kv_a, kv_a_norm: -> kv_rank; k_rope: -> rotary_dim.

    kv_b: kv_rank -> heads * (head_dim - rotary_dim + value_dim), a head's key before its value; o: back to hidden_size.
    """

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        attention, latent, rope, width = config.attention, config.attention.latent, config.rope, config.hidden_size
        assert latent is not None and rope is not None, "latent attention has both"
        self.heads, self.head_dim, self.value_dim = attention.num_heads, attention.head_dim, latent.value_dim
        self.rotary_dim = rope.rotary_dim
        self.scoring = Scoring.of(config, layer)
        bias, q_size = attention.qkv_bias, attention.num_heads * attention.head_dim
        if latent.q_rank is None:
            self.q = Linear(width, q_size, bias=False)
        else:
            self.q_a = Linear(width, latent.q_rank, bias=bias)
            self.q_a_norm = RmsNorm(latent.q_rank, LATENT_NORM_EPS)
            self.q_b = Linear(latent.q_rank, q_size, bias=False)
        self.kv_a = Linear(width, latent.kv_rank, bias=bias)
        self.k_rope = Linear(width, self.rotary_dim, bias=bias)
        self.kv_a_norm = RmsNorm(latent.kv_rank, LATENT_NORM_EPS)
        kept = self.head_dim - self.rotary_dim
        self.kv_b = Linear(latent.kv_rank, self.heads * (kept + self.value_dim), bias=False)
        self.o = Linear(self.heads * self.value_dim, width, bias=attention.output_bias)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, attend: Attend) -> Tensor:
        """x: (batch, tokens, hidden_size) -> the same. rotary: cos and sin of the positions."""
        assert rotary is not None, "a part of each key turns"
        q = self.q(x) if hasattr(self, "q") else self.q_b(self.q_a_norm(self.q_a(x)))
        q = q.view(*q.shape[:2], self.heads, self.head_dim).transpose(1, 2)
        kept = self.head_dim - self.rotary_dim
        matrices = self.kv_b.dequantize().view(self.heads, kept + self.value_dim, -1)
        into_keys, into_values = matrices[:, :kept], matrices[:, kept:]
        latent = self.kv_a_norm(self.kv_a(x))[:, None]  # (batch, 1, tokens, kv_rank)
        k = torch.cat((latent, rotate(self.k_rope(x)[:, None], *rotary)), dim=-1)
        q = torch.cat((q[..., :kept] @ into_keys, rotate(q[..., kept:], *rotary)), dim=-1)
        mixed = attend(q, k, latent, self.scoring)  # (batch, heads, tokens, kv_rank)
        values = mixed @ into_values.transpose(1, 2)
        return self.o(values.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
