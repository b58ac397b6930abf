"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), in the half layout.

Unusual: checkpoints in the pair layout are permuted once at load, so only one layout exists here. Angles are computed
in float64: at position 8,000 a float32 angle is off by up to 5e-4 radians.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from octavo.nn.config import RopeConfig
from octavo.nn.frequencies import at_length, inverse_frequencies
from octavo.nn.fused import rotary as fused


def cos_sin(rope: RopeConfig, positions: Tensor, length: int | None = None) -> tuple[Tensor, Tensor]:
    """The turns of each position, times the attention factor.

    positions: (batch, tokens). length: of the sequences, where the embedding depends on it; None: each row is as long
    as its last position says. Returns two of (batch, 1, tokens, rotary_dim), fp32.
    """
    if rope.original_length is not None and length is None:
        rows = [_frequencies(rope, each, positions.device) for each in (positions.amax(1) + 1).tolist()]
        frequencies = torch.stack(rows)[:, None, None, :]  # (batch, 1, 1, rotary_dim / 2)
    else:
        frequencies = _frequencies(rope, length or 0, positions.device)
    angles = positions[:, None, :, None].double() * frequencies  # (batch, 1, tokens, rotary_dim / 2)
    angles = torch.cat((angles, angles), dim=-1)
    return (angles.cos() * rope.attention_factor).float(), (angles.sin() * rope.attention_factor).float()


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _frequencies(rope: RopeConfig, length: int, device: torch.device) -> Tensor:
    """(rotary_dim / 2,) float64. Kept, since a step that is recorded on a GPU may bring nothing there."""
    return torch.from_numpy(inverse_frequencies(at_length(rope, length))).to(device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first `cos.shape[-1]` features of each head by its position.

    x: (batch, heads, tokens, head_dim); cos, sin: (batch, 1, tokens, rotary_dim), fp32.
    Returns x's shape and dtype. Features past rotary_dim pass through (partial rotary).
    """
    if fused.usable(x):
        return fused.rotate(x, cos, sin)
    rotary_dim, half = cos.shape[-1], cos.shape[-1] // 2
    first, second = x[..., :half], x[..., half:rotary_dim]
    turned = x[..., :rotary_dim] * cos  # in float32, as cos is
    turned[..., :half].addcmul_(second, sin[..., :half], value=-1)
    turned[..., half:].addcmul_(first, sin[..., half:])
    turned = turned.type_as(x)
    return turned if rotary_dim == x.shape[-1] else torch.cat((turned, x[..., rotary_dim:]), dim=-1)
