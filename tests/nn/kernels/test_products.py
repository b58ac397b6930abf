"""Products of every encoding at every level against numpy on the weights as the format's own library expands them.

The reference does the same arithmetic: int8 weights meet activations rounded to absmax / 127 in groups of 32, bf16 ones
meet bf16; of the encoding int8, weights and activations are rounded when turned by the Walsh-Hadamard matrix. The
bound is the issue's: 1e-3 x the sum of |a||b|.
"""

from __future__ import annotations

import functools
from typing import TypeVar

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError
from octavo.nn.kernels import binding
from octavo.nn.kernels.handle import product
from octavo.nn.kernels.tables import codes

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
HALVES = {
    "q8_0": (0,), "q4_0": (0,), "q4_1": (0, 2), "q5_0": (0,), "q5_1": (0, 2), "q4_k": (0, 2), "q5_k": (0, 2),
    "q6_k": (208,),
}  # fmt: skip
"""Where the f16 numbers of a block are."""


def block(encoding: str) -> tuple[int, int]:
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[encoding.upper()]]
    return weights, size


def matrix(encoding: str, rows: int, columns: int, seed: int, exponent: int = 0) -> Bytes:
    """Any bytes are blocks, but for their f16 numbers, which must be finite: 2^exponent times 0.5 to 1, of any sign."""
    generator = np.random.default_rng(seed)
    if encoding == "int8":
        scales = (generator.uniform(0.5, 1, (rows, 1)) * 2.0**exponent).astype(np.float32).view(np.uint8)
        whole = -(-columns // 32) * 32
        return np.concatenate((scales, generator.integers(0, 256, (rows, whole), np.uint8)), axis=1)
    if encoding == "f32":
        return (generator.standard_normal((rows, columns)) * 2.0**exponent).astype(np.float32).view(np.uint8)
    if encoding == "bf16":
        values = (generator.standard_normal((rows, columns)) * 2.0**exponent).astype(np.float32)
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    weights, size = block(encoding)
    data = generator.integers(0, 256, (rows * columns // weights, size), np.uint8)
    for offset in HALVES[encoding]:
        numbers = generator.uniform(0.5, 1, len(data)) * generator.choice([-1, 1], len(data)) * 2.0**exponent
        data[:, offset : offset + 2] = numbers.astype(np.float16)[:, None].view(np.uint8)
    return data.reshape(rows, -1)


HADAMARD = functools.reduce(np.kron, [np.array([[1, 1], [1, -1]])] * 5)


Real = TypeVar("Real", np.float32, np.float64)


def turned(x: NDArray[Real]) -> NDArray[Real]:
    """Each 32 of the last dimension by HADAMARD, sums rounded in the kernels' order."""
    shape = x.shape
    for half in (16, 8, 4, 2, 1):
        pairs = x.reshape(*shape[:-1], -1, 2, half)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack((first + second, first - second), axis=-2)
    return x.reshape(shape)


def test_the_reference_turns_by_the_walsh_hadamard_matrix() -> None:
    assert np.array_equal(turned(np.eye(32)), HADAMARD)


def expanded(encoding: str, data: Bytes) -> Floats:
    if encoding == "int8":
        return turned(data[:, :4].copy().view(np.float32) * data[:, 4:].view(np.int8).astype(float)).astype(np.float32)
    if encoding == "f32":
        return data.view(np.float32)
    values: Floats = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[encoding.upper()])
    return values


def rounded(encoding: str, level: str, x: Floats) -> NDArray[np.float64]:
    """The activations that a matrix of that encoding meets."""
    if encoding == "f32" or (encoding == "bf16" and level not in ("avx512", "amx")):
        return x.astype(np.float64)
    if encoding == "bf16":
        bits = x.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)
    padded = np.zeros((len(x), -(-x.shape[1] // 32) * 32), np.float32)
    padded[:, : x.shape[1]] = x
    if encoding == "int8":
        return turned(in_steps(turned(padded))) / 32  # in the padding, too, what rounding spreads
    return in_steps(padded)[:, : x.shape[1]]


def in_steps(padded: Floats) -> NDArray[np.float64]:
    groups = padded.reshape(len(padded), -1, 32)
    largest = np.abs(groups).max(-1, keepdims=True)
    inverse = np.where(largest > 1e-35, np.float32(127) / np.maximum(largest, np.float32(1e-35)), 0).astype(np.float32)
    q = np.rint(groups * inverse).astype(np.float64) * (largest / np.float32(127)).astype(np.float64)
    return q.reshape(padded.shape)


def check(encoding: str, level: str, rows: int, data: Bytes, x: Floats) -> None:
    got = product(level, encoding, rows, x.shape[1], data, x)
    meets, weights = rounded(encoding, level, x), expanded(encoding, data).astype(np.float64)
    bound = 1e-3 * (np.abs(meets) @ np.abs(weights).T) + 1e-30
    assert np.all(np.abs(got - meets @ weights.T) <= bound)


every_level = pytest.mark.parametrize("level", LEVELS)
every_encoding = pytest.mark.parametrize("encoding", codes.ENCODINGS)


@every_level
@every_encoding
def test_a_product_equals_the_reference_on_any_shape(encoding: str, level: str) -> None:
    @settings(max_examples=25, deadline=None)
    @given(
        rows=st.integers(1, 40),
        columns=st.integers(1, 3),
        more=st.integers(0, 31),
        tokens=st.integers(1, 40),
        seed=st.integers(0, 2**32 - 1),
        exponent=st.integers(-12, 8),
    )
    def law(rows: int, columns: int, more: int, tokens: int, seed: int, exponent: int) -> None:
        whole_blocks = encoding not in ("f32", "bf16", "int8")
        width = block(encoding)[0] * columns if whole_blocks else 32 * (columns - 1) + more + 1
        x = np.random.default_rng(seed + 1).standard_normal((tokens, width)).astype(np.float32)
        x *= np.float32(2.0) ** np.random.default_rng(seed).integers(-20, 20, (1, width)).astype(np.float32)
        check(encoding, level, rows, matrix(encoding, rows, width, seed, exponent), x)

    law()


@every_level
@every_encoding
def test_the_largest_numbers_do_not_overflow(encoding: str, level: str) -> None:
    """Every weight at its extreme, against activations that are all 127: what saturates 16 bits would show."""
    data = matrix(encoding, 16, 512, 0)
    if encoding not in ("f32", "bf16"):
        start = 4 if encoding == "int8" else 0
        data[:, start:] = np.where(np.arange(data.shape[1] - start) % 2, 255, 128)
        if encoding != "int8":
            blocks = data.reshape(-1, block(encoding)[1])
            for offset in HALVES[encoding]:
                blocks[:, offset : offset + 2] = np.float16([1.0]).view(np.uint8)
    for sign in (1, -1):
        check(encoding, level, 16, data, np.full((9, 512), 3e4 * sign, np.float32))
    if encoding not in ("f32", "bf16", "int8"):
        blocks[:] = 255
        for offset in HALVES[encoding]:
            blocks[:, offset : offset + 2] = np.float16([1.0]).view(np.uint8)
        check(encoding, level, 16, data, np.full((9, 512), 5.0, np.float32))


@every_level
@every_encoding
def test_a_row_that_is_not_finite_stays_alone(encoding: str, level: str) -> None:
    x = np.ones((20, 256), np.float32)
    x[3, 7], x[5, 9] = np.nan, np.inf
    y = product(level, encoding, 20, 256, matrix(encoding, 20, 256, 0), x)
    finite = np.isfinite(y).all(-1)
    assert np.array_equal(np.flatnonzero(~finite), [3, 5])
    assert not np.isfinite(y[[3, 5]]).any()


@every_encoding
def test_no_level_rounds_int8_sums(encoding: str) -> None:
    """Integer sums are exact at every level: what is left are fp32 sums of one order, fused or not."""
    if encoding in ("f32", "bf16"):
        return
    data = matrix(encoding, 48, 512, 1)
    x = np.random.default_rng(2).standard_normal((33, 512)).astype(np.float32)
    results = [product(level, encoding, 48, 512, data, x) for level in LEVELS]
    scale = np.abs(rounded(encoding, "c", x)) @ np.abs(expanded(encoding, data).astype(np.float64)).T
    for other in results[1:]:
        assert np.all(np.abs(other - results[0]) <= 2e-6 * scale)


def test_wrong_arguments_are_errors() -> None:
    data, x = matrix("q4_0", 16, 64, 0), np.zeros((1, 64), np.float32)
    for encoding, rows, columns, given_data, given_x in (
        ("q4_1", 16, 64, data, x),
        ("q4_0", 15, 64, data, x),
        ("q4_k", 16, 64, data, x),
        ("q4_0", 16, 64, data.view(np.int8), x),
        ("q4_0", 16, 64, data, x[:, :32]),
        ("q4_0", 16, 64, data, x.astype(np.float64)),
    ):
        with pytest.raises(ValueError):
            product(LEVELS[-1], encoding, rows, columns, given_data, given_x)  # type: ignore[arg-type]


@every_encoding
def test_tiles_have_the_bits_of_vectors_for_integers_and_their_own_for_bf16(encoding: str) -> None:
    """What makes a prompt's cut free at the amx level: 16 tokens at a time or alone, a token's bits are one."""
    if "amx" not in LEVELS:
        pytest.skip("this machine has no AMX")
    data, x = matrix(encoding, 40, 2304, 3), np.random.default_rng(4).standard_normal((85, 2304)).astype(np.float32)
    together = product("amx", encoding, 40, 2304, data, x)
    alone = [product("amx", encoding, 40, 2304, data, x[token : token + 1]) for token in range(len(x))]
    assert np.array_equal(together, np.concatenate(alone))
    if encoding != "bf16":
        assert np.array_equal(together, product("avx512", encoding, 40, 2304, data, x))
