"""Stored tensors to torch and back, bit for bit where the types agree.

Unusual: a tensor is expanded some rows at a time and the file's pages are given back between, so that loading peaks
little above the weights themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from octavo.models.tensors import StoredTensor
from octavo.nn.encodings import Encoding

CHUNK_WEIGHTS = 1 << 20

ENCODINGS: dict[torch.dtype, Encoding] = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
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
        part = stored.rows(slice(start, start + step)).dequantize()
        result[start : start + step] = torch.from_numpy(part)
        release()
    return result


def from_torch(tensor: Tensor) -> StoredTensor:
    """A float32, float16 or bfloat16 tensor as it is; on the CPU without a copy."""
    assert tensor.dtype in ENCODINGS, f"{tensor.dtype} is not a type of weights"
    bits = tensor.detach().cpu().contiguous().view(BITS[tensor.dtype]).numpy()
    return StoredTensor.from_bits(ENCODINGS[tensor.dtype], bits)
