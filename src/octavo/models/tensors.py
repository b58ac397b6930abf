"""`StoredTensor`: a weight as it lies in its file, usually a view of a memory map; expanded only when asked.

Unusual: rows of quantised matrices can be picked and reordered without touching a value. No torch here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.nn.encodings import BLOCK_FORMATS, Encoding, dequantize, row_bytes

DENSE_DTYPES: dict[Encoding, str] = {"f32": "<f4", "f16": "<f2", "bf16": "<u2"}
"""numpy's view of the dense encodings; numpy has no bf16, so its bits are uint16."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """encoding: how `data` is to be read. shape: of the expanded tensor.

    data: C-contiguous uint8: flat for a vector, else (rows, bytes of a row), rows being all dimensions but the last.
    """

    encoding: Encoding
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def __post_init__(self) -> None:
        assert self.data.dtype == np.uint8 and self.data.flags.c_contiguous, "data must be contiguous bytes"
        assert self.data.shape == data_shape(self.encoding, self.shape), f"{self.data.shape} cannot hold {self.shape}"

    @classmethod
    def from_array(cls, array: NDArray[np.float32] | NDArray[np.float16]) -> StoredTensor:
        """A float32 or float16 array as it is, without a copy where it is contiguous."""
        encodings: dict[str, Encoding] = {"float32": "f32", "float16": "f16"}
        assert array.dtype.name in encodings, f"{array.dtype} is neither float32 nor float16"
        return cls.from_bits(encodings[array.dtype.name], array)

    @classmethod
    def from_bits(cls, encoding: Encoding, bits: NDArray[np.generic]) -> StoredTensor:
        """A dense encoding from an array of its element size: bf16 comes as uint16."""
        flat = np.ascontiguousarray(bits).reshape(-1).view(np.uint8)
        return cls(encoding, bits.shape, flat.reshape(data_shape(encoding, bits.shape)))

    @property
    def nbytes(self) -> int:
        """Bytes as stored."""
        return self.data.nbytes

    def dequantize(self) -> NDArray[np.float32]:
        """A new float32 array of `shape`."""
        return dequantize(self.encoding, self.data, self.shape)

    def bits(self) -> NDArray[np.generic]:
        """A dense tensor as a numpy view of `shape`: float32, float16, or uint16 for bf16."""
        assert self.encoding in DENSE_DTYPES, f"{self.encoding} is not dense"
        return self.data.reshape(-1).view(DENSE_DTYPES[self.encoding]).reshape(self.shape)

    def rows(self, index: slice | NDArray[np.intp]) -> StoredTensor:
        """Some rows of a matrix (or elements of a dense vector), in the order of `index`; a slice copies nothing."""
        if len(self.shape) == 1:
            return StoredTensor.from_bits(self.encoding, self.bits()[index])
        assert len(self.shape) == 2, "rows of a matrix"
        picked = np.ascontiguousarray(self.data[index])
        return StoredTensor(self.encoding, (len(picked), self.shape[1]), picked)

    def slab(self, index: int) -> StoredTensor:
        """One entry of the first of three dimensions (or of a dense matrix's two); nothing is copied."""
        if len(self.shape) == 2:
            return StoredTensor.from_bits(self.encoding, self.bits()[index])
        assert len(self.shape) == 3, "a slab of a stack of matrices"
        rows = self.shape[1]
        return StoredTensor(self.encoding, self.shape[1:], self.data[index * rows : (index + 1) * rows])

    def reshaped(self, shape: tuple[int, ...]) -> StoredTensor:
        """The same numbers of a dense tensor in another shape; nothing is copied."""
        return StoredTensor.from_bits(self.encoding, self.bits().reshape(shape))

    def transposed(self) -> StoredTensor:
        """The transpose of a dense matrix, copied."""
        assert len(self.shape) == 2, "only a matrix can be transposed"
        return StoredTensor.from_bits(self.encoding, self.bits().T)


def concatenate_rows(parts: list[StoredTensor]) -> StoredTensor:
    """Tensors of one encoding and width, one under the other."""
    assert len({part.encoding for part in parts}) == 1, "parts differ in encoding"
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    return StoredTensor(parts[0].encoding, shape, np.concatenate([part.data for part in parts]))


def stacked(parts: list[StoredTensor]) -> StoredTensor:
    """Tensors of one encoding and shape as one with a dimension more."""
    assert len({(part.encoding, part.shape) for part in parts}) == 1, "parts differ"
    shape = (len(parts), *parts[0].shape)
    data = np.concatenate([part.data for part in parts])
    return StoredTensor(parts[0].encoding, shape, data.reshape(data_shape(parts[0].encoding, shape)))


def zeros_like(tensor: StoredTensor) -> StoredTensor:
    """Zeros of the same dense encoding and shape."""
    return StoredTensor(tensor.encoding, tensor.shape, np.zeros_like(tensor.data))


def data_shape(encoding: Encoding, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of `StoredTensor.data` for a tensor of `shape`."""
    if len(shape) < 2:
        return (math.prod(shape) // BLOCK_FORMATS[encoding].weights * BLOCK_FORMATS[encoding].bytes,)
    return (math.prod(shape[:-1]), row_bytes(encoding, shape[-1]))
