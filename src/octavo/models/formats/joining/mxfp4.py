"""MXFP4 weights in safetensors: four-bit numbers in `NAME_blocks`, their exponents in `NAME_scales`.

Unusual: the two are read as one tensor in GGUF's block of the same format, whose sixteen bytes hold the first and the
second half of its weights where these hold neighbours; nothing is expanded.
Source: OCP Microscaling formats 1.0; the hub's `gpt-oss` files; the block layouts of ggml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo.errors import FormatError
from octavo.models.formats.mapped import TensorEntry
from octavo.models.tensors import StoredTensor, data_shape

BLOCKS, SCALES = "_blocks", "_scales"
BLOCK_BYTES = 16
"""Of 32 weights, without their exponent."""


@dataclass(frozen=True, kw_only=True)
class Mxfp4Entry(TensorEntry):
    """shape: (experts, rows, width) in weights. scales: the other tensor, of one byte a block."""

    scales: TensorEntry

    def read(self) -> StoredTensor:
        """The whole, copied."""
        return self._packed(slice(0, self.shape[0] * self.shape[1]), self.shape)

    def slab(self, index: int) -> StoredTensor:
        """One expert's matrix, copied."""
        rows = self.shape[1]
        return self._packed(slice(index * rows, (index + 1) * rows), self.shape[1:])

    def _packed(self, rows: slice, shape: tuple[int, ...]) -> StoredTensor:
        blocks = self.shape[2] // (2 * BLOCK_BYTES)
        numbers = self.file.bytes_at(self.offset, self.nbytes).reshape(-1, blocks, BLOCK_BYTES)[rows]
        exponents = self.scales.file.bytes_at(self.scales.offset, self.scales.nbytes).reshape(-1, blocks, 1)[rows]
        weights = np.stack((numbers & 15, numbers >> 4), axis=-1).reshape(*numbers.shape[:2], 2, BLOCK_BYTES)
        packed = np.concatenate((exponents, weights[:, :, 0] | weights[:, :, 1] << 4), axis=-1)
        return StoredTensor("mxfp4", shape, packed.reshape(data_shape("mxfp4", shape)))


def join_mxfp4(entries: Mapping[str, TensorEntry], source: str) -> dict[str, TensorEntry]:
    """The entries with each pair of blocks and scales as one, under the name of the blocks."""
    joined = dict(entries)
    for name, blocks in entries.items():
        scales = entries.get(name.removesuffix(BLOCKS) + SCALES)
        if not name.endswith(BLOCKS) or scales is None:
            continue
        whole = blocks.kind == scales.kind == "U8" and len(blocks.shape) == 4 and blocks.shape[3] == BLOCK_BYTES
        if not whole or scales.shape != blocks.shape[:3]:
            raise FormatError(f"{source}: {name!r} and {scales.name!r} do not fit together as MXFP4; fetch it again")
        shape = (*blocks.shape[:2], 2 * BLOCK_BYTES * blocks.shape[2])
        place = (blocks.offset, blocks.nbytes, blocks.file)
        joined[name] = Mxfp4Entry(name, "MXFP4", "mxfp4", shape, *place, scales=scales)
        del joined[scales.name]
    return joined


def without_unpacked(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A config without its `quantization_config`, where that is of weights that are read as they are."""
    quantised = raw.get("quantization_config")
    unpacked = isinstance(quantised, dict) and quantised.get("quant_method") == "mxfp4"
    return {key: value for key, value in raw.items() if key != "quantization_config" or not unpacked}
