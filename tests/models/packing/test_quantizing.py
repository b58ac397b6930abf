"""Quantisation at load against numpy's rounding, on a real small model, and what is refused."""

from __future__ import annotations

import functools
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError, UnknownNameError, UnsupportedError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.loading import make_runner
from octavo.models.runner import Row
from octavo.nn.kernels import binding
from octavo.nn.kernels.handle import quantize

try:
    binding.library()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

Floats = NDArray[np.float32]
HADAMARD = functools.reduce(np.kron, [np.array([[1, 1], [1, -1]], np.float32)] * 5)


def expanded(target: str, x: Floats) -> Floats:
    """Quantised by us, expanded by the format's own library."""
    data = quantize(target, "f32", *x.shape, x.view(np.uint8))
    if target == "int8":
        return turned(data[:, :4].copy().view(np.float32) * data[:, 4:].view(np.int8))[:, : x.shape[1]]
    values: Floats = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[target.upper()])
    return values


def turned(x: Floats) -> Floats:
    """Each 32 columns, padded with zeros, by the Walsh-Hadamard matrix."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % 32)))
    return (padded.reshape(len(x), -1, 32) @ HADAMARD).reshape(padded.shape)


def matrix(seed: int, rows: int, columns: int, exponent: int) -> Floats:
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, columns)) * 2.0**exponent * generator.choice([0.0, 1.0, 1.0, 8.0], columns)
    return x.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 90), st.integers(-20, 20))
def test_int8_rounds_each_turned_weight_to_the_nearest_step_of_its_row(
    seed: int, rows: int, columns: int, exp: int
) -> None:
    x = matrix(seed, rows, columns, exp)
    wanted = turned(x) / 32
    step = np.abs(wanted).max(-1, keepdims=True) / 127
    assert np.all(np.abs(turned(expanded("int8", x)) / 32 - wanted)[:, : columns // 32 * 32] <= 0.51 * step)
    rms = np.sqrt(np.square(expanded("int8", x) - x).sum(-1, keepdims=True))
    assert np.all(rms <= 0.51 * step * (32 * wanted.shape[1]) ** 0.5)


def test_one_large_weight_in_a_row_costs_the_others_little() -> None:
    x = np.random.default_rng(0).standard_normal((8, 512)).astype(np.float32)
    x[:, 100] = 40
    plain = np.abs(x).max(-1, keepdims=True) / 127
    theirs, ours = np.rint(x / plain) * plain - x, expanded("int8", x) - x
    assert np.square(ours).sum() < 0.2 * np.square(theirs).sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3), st.integers(-10, 10))
def test_int4_is_never_worse_than_the_formats_own_quantiser(seed: int, rows: int, groups: int, exponent: int) -> None:
    x = matrix(seed, rows, 32 * groups, exponent)

    def error(values: Floats) -> NDArray[np.float64]:
        return np.square((values - x).astype(np.float64)).reshape(-1, 32).sum(-1)

    for target, slack in (("q4_0", 1.02), ("q4_1", 1.05)):
        kind = gguf.GGMLQuantizationType[target.upper()]
        theirs = gguf.quants.dequantize(gguf.quants.quantize(x, kind), kind)
        assert np.all(error(expanded(target, x)) <= slack * error(theirs) + 1e-12 * 4.0**exponent)


def test_bf16_is_read_as_it_is() -> None:
    x = matrix(0, 4, 64, 0)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    exact = (bits.astype(np.uint32) << 16).view(np.float32)
    for target in ("int8", "q4_0", "q4_1"):
        ours = quantize(target, "bf16", 4, 64, bits.view(np.uint8))
        assert np.array_equal(ours, quantize(target, "f32", 4, 64, exact.view(np.uint8)))


@pytest.mark.parametrize(("name", "bound"), [("int8", 0.03), ("int4", 0.4), ("int4-asymmetric", 0.4)])
def test_a_real_model_keeps_its_logits_nearly(
    stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, bound: float
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    monkeypatch.setattr("octavo.models.packing.cache.SMALLEST", 0)
    rows = [Row(np.arange(1, 50, dtype=np.int32), 0, range(4), 0)]
    checkpoint = open_checkpoint(stories)

    def logits(quantize: str | None) -> Floats:
        runner = make_runner(checkpoint, runner="kernels", quantize=quantize, num_blocks=4)
        found = runner.step(rows).logits
        runner.close()
        return found

    exact, first = logits(None), logits(name)
    assert 0 < np.linalg.norm(first - exact) <= bound * np.linalg.norm(exact)
    assert np.array_equal(logits(name), first), "mapped"
    assert np.array_equal(logits(None), exact), "each has a file of its own"


def test_what_cannot_be_is_refused_by_name(stories: Path, smollm2: Path) -> None:
    with pytest.raises(UnknownNameError, match="'int88', did you mean 'int8'"):
        make_runner(open_checkpoint(stories), quantize="int88", num_blocks=1)
    with pytest.raises(UnsupportedError, match="quantised already"):
        make_runner(open_checkpoint(smollm2), quantize="int8", num_blocks=1)
    with pytest.raises(UnsupportedError, match="torch runner does not quantise"):
        make_runner(open_checkpoint(stories), runner="torch", quantize="int8", num_blocks=1)
