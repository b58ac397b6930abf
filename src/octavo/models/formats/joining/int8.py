"""Matrices of eight bits in safetensors: signed numbers in `NAME`, in `NAME_scales` a float16 for each 32 of a row.

The pair is read as one tensor in GGUF's block of the same numbers (q8_0), which the kernels take as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError
from octavo.models.formats.mapped import TensorEntry
from octavo.models.tensors import StoredTensor

SCALES = "_scales"
BLOCK = 32


@dataclass(frozen=True)
class Int8Entry(TensorEntry):
    """shape: (rows, width). scales: the other tensor, of one float16 a block."""

    scales: TensorEntry

    def read(self) -> StoredTensor:
        """The whole, copied into blocks of a scale and its numbers."""
        rows, blocks = self.shape[0], self.shape[1] // BLOCK
        numbers = self.file.bytes_at(self.offset, self.nbytes).reshape(rows, blocks, BLOCK)
        scales = self.scales.file.bytes_at(self.scales.offset, self.scales.nbytes).reshape(rows, blocks, 2)
        return StoredTensor("q8_0", self.shape, np.concatenate((scales, numbers), axis=-1).reshape(rows, -1))


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
        joined[name] = Int8Entry(name, "I8", "q8_0", shape, numbers.offset, numbers.nbytes, numbers.file, scales)
        del joined[scales.name]
    return joined


def split_int8(blocks: StoredTensor) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """A matrix in q8_0 as the pair that a file holds: numbers (rows, width) and scales (rows, width / 32)."""
    assert blocks.encoding == "q8_0" and len(blocks.shape) == 2, "a matrix in blocks of eight bits"
    rows = blocks.data.reshape(blocks.shape[0], -1, BLOCK + 2)
    scales = np.ascontiguousarray(rows[:, :, :2]).view(np.float16)[:, :, 0]
    return np.ascontiguousarray(rows[:, :, 2:]).reshape(blocks.shape).view(np.int8), scales


def quantized(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(rows, columns) to blocks of 32: a float16 scale, the largest magnitude / 127, then 32 signed bytes."""
    blocks = values.reshape(len(values), -1, BLOCK)
    scales = (np.abs(blocks).max(axis=2, keepdims=True) / 127).astype(np.float16)
    divisors = np.where(scales == 0, 1, scales).astype(np.float32)
    numbers = np.clip(np.rint(blocks / divisors), -127, 127).astype(np.int8)
    joined = np.concatenate((scales.view(np.uint8).reshape(*blocks.shape[:2], 2), numbers.view(np.uint8)), axis=2)
    return np.ascontiguousarray(joined.reshape(len(values), -1))
