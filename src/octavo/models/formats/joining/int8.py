"""Matrices of eight bits in safetensors: signed numbers in `NAME`, in `NAME_scales` a float16 for each 32 of a row.

The pair is read as one tensor in GGUF's block of the same numbers (q8_0), which the kernels take as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError
from octavo.models.formats.mapped import TensorEntry
from octavo.models.tensors import StoredTensor

SCALES = "_scales"
BLOCK = 32


def join_int8(entries: Mapping[str, TensorEntry], source: str) -> dict[str, TensorEntry]:
    """The entries with each matrix of eight bits and its scales as one. Raises FormatError where two do not fit."""
    joined = dict(entries)
    for name, numbers in entries.items():
        scales = entries.get(name + SCALES)
        if numbers.kind != "I8" or scales is None:
            continue
        shape = numbers.shape
        if len(shape) != 2 or shape[1] % BLOCK or scales.kind != "F16" or scales.shape != (shape[0], shape[1] // BLOCK):
            raise FormatError(f"{source}: {name!r} and {scales.name!r} do not fit together as int8; fetch it again")
        joined[name] = replace(numbers, encoding="q8_0", make=partial(_blocks, numbers, scales))
        del joined[scales.name]
    return joined


def _blocks(numbers: TensorEntry, scales: TensorEntry) -> StoredTensor:
    """The whole, copied into blocks of a scale and its numbers."""
    rows = numbers.shape[0]
    parts = [
        part.file.bytes_at(part.offset, part.nbytes).reshape(rows, -1, width)
        for part, width in ((scales, 2), (numbers, BLOCK))
    ]
    return StoredTensor("q8_0", numbers.shape, np.concatenate(parts, axis=-1).reshape(rows, -1))


def split_int8(blocks: StoredTensor) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """A matrix in q8_0 as the pair that a file holds: numbers (rows, width) and scales (rows, width / 32)."""
    assert blocks.encoding == "q8_0" and len(blocks.shape) == 2, "a matrix in blocks of eight bits"
    rows = blocks.data.reshape(blocks.shape[0], -1, BLOCK + 2)
    scales = np.ascontiguousarray(rows[:, :, :2]).view(np.float16)[:, :, 0]
    return np.ascontiguousarray(rows[:, :, 2:]).reshape(blocks.shape).view(np.int8), scales


def in_int8(tensor: StoredTensor) -> StoredTensor:
    """A matrix of whole blocks with each number at the nearest step of its block's scale, the largest magnitude / 127.

    Unusual: the steps are of the scale as it is stored, in float16; ggml's reference takes them before it is rounded.
    """
    if tensor.encoding == "q8_0":
        return tensor
    rows = tensor.shape[0]
    blocks = tensor.dequantize().reshape(rows, -1, BLOCK)
    scales = (np.abs(blocks).max(axis=2, keepdims=True) / 127).astype(np.float16)
    divisors = np.where(scales == 0, 1, scales).astype(np.float32)
    numbers = np.clip(np.rint(blocks / divisors), -127, 127).astype(np.int8)
    joined = np.concatenate((scales.view(np.uint8).reshape(rows, -1, 2), numbers.view(np.uint8)), axis=2)
    return StoredTensor("q8_0", tensor.shape, joined.reshape(rows, -1))
