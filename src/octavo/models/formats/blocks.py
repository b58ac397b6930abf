"""Numbers to stored weights: the block encodings that are written, bit for bit those of ggml's reference code.

Source: `quantize_row_q8_0_ref` and `quantize_row_q4_0_ref` of ggml (`ggml-quants.c`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from octavo.models.tensors import StoredTensor, data_shape
from octavo.nn.encodings import BLOCK_FORMATS

WrittenEncoding = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def encoded(tensor: StoredTensor, encoding: WrittenEncoding) -> StoredTensor:
    """The tensor in an encoding; a block must fit its rows whole. One that has it already is itself."""
    if tensor.encoding == encoding:
        return tensor
    block = BLOCK_FORMATS[encoding]
    assert not tensor.shape or tensor.shape[-1] % block.weights == 0, "rows are whole blocks"
    data = ENCODERS[encoding](tensor.dequantize().reshape(-1, block.weights))
    return StoredTensor(encoding, tensor.shape, np.ascontiguousarray(data).reshape(data_shape(encoding, tensor.shape)))


def _f32(values: Floats) -> Bytes:
    return values.astype("<f4").view(np.uint8)


def _f16(values: Floats) -> Bytes:
    return values.astype("<f2").view(np.uint8)


def _bf16(values: Floats) -> Bytes:
    """Rounded to nearest even."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype("<u2").view(np.uint8)


def _q8_0(blocks: Floats) -> Bytes:
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * _inverse(scale)
    whole = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)  # halves go away from zero
    return np.concatenate((scale.astype("<f2").view(np.uint8), whole.view(np.uint8)), axis=1)


def _q4_0(blocks: Floats) -> Bytes:
    """The weight of the largest magnitude becomes -8, whichever its sign."""
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scale = largest / np.float32(-8)
    scaled = blocks.astype(np.float64) * _inverse(scale).astype(np.float64)
    whole = np.minimum(np.trunc(scaled + 8.5), 15).astype(np.uint8)
    packed = whole[:, :16] | whole[:, 16:] << 4
    return np.concatenate((scale.astype("<f2").view(np.uint8), packed), axis=1)


def _inverse(scale: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.where(scale == 0, np.float32(0), np.float32(1) / scale)


ENCODERS: dict[WrittenEncoding, Callable[[Floats], Bytes]] = {
    "f32": _f32, "f16": _f16, "bf16": _bf16, "q8_0": _q8_0, "q4_0": _q4_0
}  # fmt: skip
