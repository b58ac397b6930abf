"""What the kernels take of an encoding that they have none for: the same numbers in one that they have.

f16 becomes f32. MXFP4 becomes Q5_0, whose 32 steps hold twice each of its sixteen numbers, wherever the scales are f16
numbers, and else f32. Nothing is rounded, but by `turned`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from octavo.models.formats.blocks import encoded
from octavo.models.tensors import DENSE_DTYPES, StoredTensor
from octavo.nn.encodings import E2M1
from octavo.nn.kernels.tables.codes import ENCODINGS

STEPS = (2 * E2M1 + 16).astype(np.uint8)
"""Of each number of MXFP4: twice its value in Q5_0, which subtracts 16."""
LOWEST_EXPONENT, HIGHEST_EXPONENT = 128 - 24, 128 + 15
"""Bytes of exponent whose scale, halved, is an f16 number."""


def taken(tensor: StoredTensor) -> StoredTensor:
    """The tensor itself where the kernels have its encoding."""
    if tensor.encoding in ENCODINGS:
        return tensor
    if tensor.encoding == "mxfp4":
        blocks = tensor.data.reshape(-1, 17)
        if int(blocks[:, 0].min()) >= LOWEST_EXPONENT and int(blocks[:, 0].max()) <= HIGHEST_EXPONENT:
            return StoredTensor("q5_0", tensor.shape, _as_q5_0(blocks).reshape(tensor.shape[0], -1))
    return StoredTensor.from_array(tensor.dequantize())


def _as_q5_0(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(blocks, 17) -> (blocks, 22): an f16 scale, the fifth bits, then nibbles in the order that they had."""
    low, high = STEPS[blocks[:, 1:] & 15], STEPS[blocks[:, 1:] >> 4]
    result = np.empty((len(blocks), 22), np.uint8)
    result[:, :2] = np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128).astype("<f2").view(np.uint8)
    result[:, 2:6] = np.packbits(np.concatenate((low, high), axis=-1) >> 4, axis=-1, bitorder="little")
    result[:, 6:] = (low & 15) | (high & 15) << 4
    return result


def turned(tensor: StoredTensor) -> StoredTensor:
    """A matrix turned round; one in blocks, which cannot be, rounded to bfloat16."""
    if tensor.encoding in DENSE_DTYPES:
        return tensor.transposed()
    return encoded(tensor, "bf16").transposed()
