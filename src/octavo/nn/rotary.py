"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the half layout.

Unusual: checkpoints in the pair layout are permuted once at load, so only one layout exists here. Angles are computed
in float64: at position 8,000 a float32 angle is off by up to 5e-4 radians.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octavo.nn.config import RopeConfig
from octavo.nn.frequencies import inverse_frequencies


def cos_sin(rope: RopeConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """The turns of each position, times the attention factor.

    positions: (batch, tokens). Returns two of (batch, 1, tokens, rotary_dim), fp32.
    """
    frequencies = torch.from_numpy(inverse_frequencies(rope)).to(positions.device)
    angles = positions[:, None, :, None].double() * frequencies  # (batch, 1, tokens, rotary_dim / 2)
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * rope.attention_factor).float(), (angles.sin() * rope.attention_factor).float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first `cos.shape[-1]` features of each head by its position.

    x: (batch, heads, tokens, head_dim); cos, sin: (batch, 1, tokens, rotary_dim), fp32.
    Returns x's shape and dtype. Features past rotary_dim pass through (partial rotary).
    """
    rotary_dim = cos.shape[-1]
    turned = x[..., :rotary_dim].float()
    first, second = turned.chunk(2, dim=-1)
    turned = (turned * cos + torch.cat((-second, first), dim=-1) * sin).type_as(x)
    return turned if rotary_dim == x.shape[-1] else torch.cat((turned, x[..., rotary_dim:]), dim=-1)
