"""Dequantisers against the reader of the format's own project, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from numpy.typing import NDArray

from octavo.models.tensors import StoredTensor
from octavo.nn.encodings import BLOCK_FORMATS, Encoding, dequantize

ENCODINGS = tuple(BLOCK_FORMATS)


def random_blocks(encoding: Encoding, blocks: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random bytes whose f16 scales are finite: every nibble, sign and high bit occurs."""
    generator = np.random.default_rng(seed)
    data = generator.integers(0, 256, (blocks, BLOCK_FORMATS[encoding].bytes), np.uint8)
    scale = generator.normal(0, 0.1, blocks).astype(np.float16).view(np.uint8).reshape(-1, 2)
    places = {"q6_k": (208,), "q4_1": (0, 2), "q5_1": (0, 2), "q4_k": (0, 2), "q5_k": (0, 2)}
    if encoding == "f32":
        return generator.normal(size=(blocks, 1)).astype("<f4").view(np.uint8)
    if encoding in ("f16", "bf16"):
        data = generator.normal(size=(blocks, 1)).astype("<f4" if encoding == "bf16" else "<f2").view(np.uint8)
        return np.ascontiguousarray(data[:, 2:] if encoding == "bf16" else data)
    if encoding == "mxfp4":  # the first byte is an exponent
        data[:, 0] = generator.integers(0, 250, blocks)
        return data
    for place in places.get(encoding, (0,)):
        data[:, place : place + 2] = np.roll(scale, place, axis=0)
    return data


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("blocks", [1, 7, 2048])
def test_values_equal_the_reference_reader_bit_for_bit(encoding: Encoding, blocks: int) -> None:
    data = random_blocks(encoding, blocks)
    weights = blocks * BLOCK_FORMATS[encoding].weights
    expected = quants.dequantize(data.reshape(1, -1), GGMLQuantizationType[encoding.upper()]).reshape(-1)
    ours = dequantize(encoding, data, (weights,))
    assert ours.dtype == np.float32 and np.isfinite(ours).all()
    assert np.array_equal(ours.view(np.uint32), np.asarray(expected, np.float32).view(np.uint32))


def test_real_weights_have_their_golden_sums(smollm2: Any, golden: dict[str, Any]) -> None:
    from octavo.models.formats.gguf import read_gguf

    tensors = read_gguf(smollm2).tensors
    for expected in golden["dequant"]:
        tensor = tensors[expected["tensor"]].read()
        assert tensor.encoding == expected["type"].lower()
        assert (
            tensor.data.reshape(-1)[: len(expected["first_block_hex"]) // 2].tobytes().hex()
            == (expected["first_block_hex"])
        )
        values = tensor.dequantize()
        assert values[0, :8].tolist() == expected["row0_first8"]
        assert values.sum(dtype=np.float64) == pytest.approx(expected["sum_float64"], rel=1e-12)
        assert np.abs(values).sum(dtype=np.float64) == pytest.approx(expected["abs_sum_float64"], rel=1e-12)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rows_are_picked_without_touching_a_value(encoding: Encoding) -> None:
    width = 2 * BLOCK_FORMATS[encoding].weights
    data = random_blocks(encoding, 10).reshape(5, -1)
    tensor = StoredTensor(encoding, (5, width), data)
    order = np.array([4, 0, 2])
    assert np.array_equal(tensor.rows(order).dequantize(), tensor.dequantize()[order])
    assert np.array_equal(tensor.rows(slice(1, 3)).dequantize(), tensor.dequantize()[1:3])
    assert np.shares_memory(tensor.rows(slice(1, 3)).data, data)


@pytest.mark.parametrize("encoding", ["f32", "f16", "bf16"])
def test_a_dense_matrix_transposes_exactly(encoding: Encoding) -> None:
    tensor = StoredTensor(encoding, (3, 4), random_blocks(encoding, 12).reshape(3, -1))
    assert tensor.transposed().shape == (4, 3)
    assert np.array_equal(tensor.transposed().dequantize(), tensor.dequantize().T)
