"""Weight encodings: how numbers lie in bytes, and numpy code that expands them to float32.

Dense types are blocks of one. Quantised ones are GGUF's blocks, little-endian; the products and sums are done in
float32 in the order of ggml's reference code, so the values are bit for bit those of other readers.
Source: the block layouts of ggml (`ggml-common.h`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "mxfp4"]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

CHUNK_WEIGHTS = 1 << 18
"""Weights expanded at a time: temporaries stay in the second-level cache and memory stays near the result's size."""


@dataclass(frozen=True)
class BlockFormat:
    """weights and bytes of one block; expand: (blocks, bytes) uint8 -> (blocks, weights) float32."""

    weights: int
    bytes: int
    expand: Callable[[Bytes], Floats]


def row_bytes(encoding: Encoding, width: int) -> int:
    """Bytes of a row of `width` weights; width must be whole blocks."""
    block = BLOCK_FORMATS[encoding]
    assert width % block.weights == 0, f"{width} weights are not whole {encoding} blocks"
    return width // block.weights * block.bytes


def dequantize(encoding: Encoding, data: Bytes, shape: tuple[int, ...]) -> Floats:
    """Expand `data` (any shape, C-contiguous, exactly the bytes of `shape`) to a new float32 array of `shape`."""
    block = BLOCK_FORMATS[encoding]
    blocks = data.reshape(-1, block.bytes)
    assert len(blocks) * block.weights == math.prod(shape), "data and shape disagree"
    result = np.empty((len(blocks), block.weights), np.float32)
    step = max(1, CHUNK_WEIGHTS // block.weights)
    for start in range(0, len(blocks), step):
        result[start : start + step] = block.expand(blocks[start : start + step])
    return result.reshape(shape)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32, copy=False)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q8_0(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _nibbles(packed: Bytes) -> Floats:
    """(blocks, 16) bytes -> (blocks, 32): low nibbles are weights 0 .. 15, high ones 16 .. 31."""
    return np.concatenate((packed & 15, packed >> 4), axis=-1).astype(np.float32)


def _five_bits(high: Bytes, packed: Bytes) -> Floats:
    """As `_nibbles`, with a fifth bit a weight: bit j of the little-endian u32 belongs to weight j."""
    return _nibbles(packed) + 16 * np.unpackbits(high, axis=-1, bitorder="little").astype(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * (_nibbles(blocks[:, 2:]) - 8)


def _q4_1(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * _nibbles(blocks[:, 4:]) + _f16(blocks[:, 2:4])


def _q5_0(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * (_five_bits(blocks[:, 2:6], blocks[:, 6:]) - 16)


def _q5_1(blocks: Bytes) -> Floats:
    return _f16(blocks[:, :2]) * _five_bits(blocks[:, 4:8], blocks[:, 8:]) + _f16(blocks[:, 2:4])


def _six_bit_scales(blocks: Bytes) -> tuple[Floats, Floats]:
    """The (blocks, 8, 1) scales and minima of Q4_K and Q5_K: f16 d and dmin, then 16 six-bit numbers in 12 bytes."""
    low, middle, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate((low & 63, (high & 15) | (low >> 6 << 4)), axis=-1)
    minima = np.concatenate((middle & 63, (high >> 4) | (middle >> 6 << 4)), axis=-1)
    d, dmin = _f16(blocks[:, :2]), _f16(blocks[:, 2:4])
    return (d * scales.astype(np.float32))[..., None], (dmin * minima.astype(np.float32))[..., None]


def _q4_k(blocks: Bytes) -> Floats:
    scales, minima = _six_bit_scales(blocks)
    packed = blocks[:, 16:144].reshape(-1, 4, 1, 32)
    q = np.concatenate((packed & 15, packed >> 4), axis=2).reshape(-1, 8, 32)
    return (scales * q.astype(np.float32) - minima).reshape(-1, 256)


def _q5_k(blocks: Bytes) -> Floats:
    scales, minima = _six_bit_scales(blocks)
    packed = blocks[:, 48:176].reshape(-1, 4, 1, 32)
    q = np.concatenate((packed & 15, packed >> 4), axis=2).reshape(-1, 8, 32)
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    q |= (blocks[:, None, 16:48] >> shifts & 1) << 4  # bit i of byte j: weight j of sub-block i
    return (scales * q.astype(np.float32) - minima).reshape(-1, 256)


def _q6_k(blocks: Bytes) -> Floats:
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate((low & 15, low >> 4), axis=2).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3
    q = (low | high << 4).astype(np.float32) - 32
    scales = _f16(blocks[:, 208:210]) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return (scales[..., None] * q.reshape(-1, 16, 16)).reshape(-1, 256)


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The numbers of four bits: a sign, two bits of exponent, one of mantissa."""


def _mxfp4(blocks: Bytes) -> Floats:
    """A byte of exponent, then nibbles (OCP Microscaling formats 1.0)."""
    packed = blocks[:, 1:]
    values = E2M1[np.concatenate((packed & 15, packed >> 4), axis=-1)]
    return np.ldexp(values, blocks[:, :1].astype(np.int32) - 127).astype(np.float32)


BLOCK_FORMATS: Mapping[str, BlockFormat] = {
    "f32": BlockFormat(1, 4, _f32),
    "f16": BlockFormat(1, 2, _f16),
    "bf16": BlockFormat(1, 2, _bf16),
    "q8_0": BlockFormat(32, 34, _q8_0),
    "q4_0": BlockFormat(32, 18, _q4_0),
    "q4_1": BlockFormat(32, 20, _q4_1),
    "q5_0": BlockFormat(32, 22, _q5_0),
    "q5_1": BlockFormat(32, 24, _q5_1),
    "q4_k": BlockFormat(256, 144, _q4_k),
    "q5_k": BlockFormat(256, 176, _q5_k),
    "q6_k": BlockFormat(256, 210, _q6_k),
    "mxfp4": BlockFormat(32, 17, _mxfp4),
}
