"""Stored tensors to torch and back, bit for bit where the types agree.

Unusual: a tensor that need not change is not even copied; any other is expanded some rows at a time and the file's
pages are given back between, so that loading peaks little above the weights themselves.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.models.formats.mapped import MappedFile
from octavo.models.tensors import StoredTensor
from octavo.nn.encodings import Encoding

CHUNK_WEIGHTS = 1 << 22

ENCODINGS: dict[torch.dtype, Encoding] = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
DTYPES = {encoding: dtype for dtype, encoding in ENCODINGS.items()}
BITS = {torch.float32: torch.float32, torch.float16: torch.float16, torch.bfloat16: torch.uint16}


def to_torch(
    stored: StoredTensor,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    release: Callable[[], None] = lambda: None,
) -> Tensor:
    """A new tensor of `stored.shape`. release: called whenever a part of the file has been read."""
    result = torch.empty(stored.shape, dtype=dtype, device=device)
    if len(stored.shape) != 2:
        result.copy_(torch.from_numpy(stored.dequantize()))
        return result
    step = max(1, CHUNK_WEIGHTS // max(1, math.prod(stored.shape[1:])))
    for start in range(0, stored.shape[0], step):
        _fill(result[start : start + step], stored.rows(slice(start, start + step)))
        release()
    return result


def _fill(target: Tensor, part: StoredTensor) -> None:
    """Expand into a part of the result; dense types by torch, straight from the file's bytes."""
    if part.encoding in DTYPES:
        stored = (ctypes.c_uint8 * part.nbytes).from_address(part.data.ctypes.data)  # read-only, which torch warns of
        target.copy_(torch.frombuffer(stored, dtype=DTYPES[part.encoding]).view(part.shape))
    else:
        target.copy_(torch.from_numpy(part.dequantize()))


class SharedFiles:
    """A checkpoint's files as torch maps them: tensors that lie there as they are wanted are had without a copy.

    What is written into such a tensor stays in this process.
    """

    def __init__(self, files: Sequence[MappedFile]) -> None:
        self._files = [
            (
                np.frombuffer(file.data, np.uint8).ctypes.data,
                torch.from_file(str(file.path), shared=False, size=file.size, dtype=torch.uint8),
            )
            for file in files
        ]

    def find(self, stored: StoredTensor, dtype: torch.dtype) -> Tensor | None:
        """The tensor in place; None where it is of another type, or was put together on the way."""
        if stored.encoding != ENCODINGS.get(dtype):
            return None
        for base, everything in self._files:
            offset = stored.data.ctypes.data - base
            if 0 <= offset <= everything.numel() - stored.nbytes and offset % dtype.itemsize == 0:
                return everything[offset : offset + stored.nbytes].view(dtype).view(stored.shape)
        return None


def from_torch(tensor: Tensor) -> StoredTensor:
    """A float32, float16 or bfloat16 tensor as it is; on the CPU without a copy."""
    assert tensor.dtype in ENCODINGS, f"{tensor.dtype} is not a type of weights"
    bits = tensor.detach().cpu().contiguous().view(BITS[tensor.dtype]).numpy()
    return StoredTensor.from_bits(ENCODINGS[tensor.dtype], bits)


def floats(tensor: Tensor) -> NDArray[np.float32]:
    """The numbers of a tensor; those of a GPU by way of memory that it writes at once."""
    if tensor.is_cpu:
        return tensor.float().numpy()
    return torch.empty(tensor.shape, pin_memory=True).copy_(tensor).numpy()
