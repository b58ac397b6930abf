"""Quantisation at load (`--quantize`): dense weights to integers, without calibration, in the kernels' own formats.

Tables (embeddings, head) stay at 8 bits where blocks go to 4: a token's row is read alone, and its errors are not
averaged out. Norms and biases stay as they are. A matrix that is no whole groups of 32 wide takes int8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.errors import UnknownNameError, UnsupportedError, nearest
from octavo.models.tensors import StoredTensor
from octavo.nn.kernels.handle import quantize

GROUP = 32
TABLES = ("embed", "positions", "head")
DENSE = ("f32", "f16", "bf16")


@dataclass(frozen=True)
class Quantization:
    """blocks, tables: the encodings, of `codes.ENCODINGS`, of matrices in blocks and of tables."""

    blocks: str
    tables: str

    @staticmethod
    def named(name: str, tensors: Mapping[str, StoredTensor]) -> Quantization:
        """Raises UnknownNameError for an unknown name, UnsupportedError where no tensor is dense."""
        if name not in QUANTIZATIONS:
            raise UnknownNameError(
                f"quantize is {name!r}{nearest(name, QUANTIZATIONS)}; {', '.join(QUANTIZATIONS)} are known",
                param="quantize",
            )
        found = set()
        for tensor in tensors.values():
            if len(tensor.shape) == 2 and tensor.encoding in DENSE:
                return QUANTIZATIONS[name]
            found.add(tensor.encoding)
        raise UnsupportedError(
            f"the weights are quantised already ({', '.join(sorted(found))}); load them without quantize={name}",
            param="quantize",
        )

    def apply(self, slot: str, tensor: StoredTensor) -> tuple[str, NDArray[np.uint8]]:
        """A matrix's encoding and bytes, row after row; quantised ones stay. slot: a key of `codes.MATRICES`."""
        if tensor.encoding not in ("f32", "bf16"):
            return tensor.encoding, tensor.data
        rows, columns = tensor.shape
        target = self.tables if slot in TABLES else self.blocks
        if columns % GROUP:
            target = "int8"
        return target, quantize(target, tensor.encoding, rows, columns, tensor.data)


QUANTIZATIONS: Mapping[str, Quantization] = {
    "int8": Quantization("int8", "int8"),
    "int4": Quantization("q4_0", "int8"),
    "int4-asymmetric": Quantization("q4_1", "int8"),
}
"""By the name that --quantize takes."""
