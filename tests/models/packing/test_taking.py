"""What the kernels take instead of an encoding that they have none for has the same numbers, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from octavo.models.packing.taking import taken
from octavo.models.tensors import StoredTensor


def mxfp4(exponents: tuple[int, int]) -> StoredTensor:
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (48, 2, 17)).astype(np.uint8)
    blocks[..., 0] = generator.integers(*exponents, (48, 2), endpoint=True)
    blocks[0, :, 0] = exponents
    return StoredTensor("mxfp4", (48, 64), blocks.reshape(48, 34))


@pytest.mark.parametrize(("exponents", "encoding"), [((104, 143), "q5_0"), ((103, 143), "f32"), ((104, 144), "f32")])
def test_mxfp4_becomes_five_bits_where_its_scales_are_halves(exponents: tuple[int, int], encoding: str) -> None:
    source = mxfp4(exponents)
    result = taken(source)
    assert result.encoding == encoding and result.shape == source.shape
    assert np.array_equal(result.dequantize(), source.dequantize())


def test_halves_become_floats_and_other_encodings_stay() -> None:
    half = StoredTensor.from_array(np.arange(64, dtype=np.float16).reshape(2, 32))
    assert taken(half).encoding == "f32" and np.array_equal(taken(half).dequantize(), half.dequantize())
    assert taken(taken(half)) is not half and taken(mxfp4((120, 120))).encoding == "q5_0"
    kept = StoredTensor.from_array(np.ones((2, 32), np.float32))
    assert taken(kept) is kept
