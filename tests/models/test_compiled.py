"""The kernel runner against torch on the same weights, and its law: a row's bits depend on nothing but the row."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octavo.errors import FormatError, MissingDependencyError, OctavoError, UnsupportedError
from octavo.models.compiled import CompiledRunner
from octavo.models.runner import BLOCK_SIZE, Row
from octavo.models.tensors import StoredTensor
from octavo.models.transformer import TorchRunner
from octavo.nn.config import (
    AttentionConfig,
    MlpConfig,
    TransformerConfig,
)
from octavo.nn.encodings import BLOCK_FORMATS, Encoding
from octavo.nn.kernels import binding

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

MODELS: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("kernel_models.py")))
(
    NUM_BLOCKS,
    NATIVE,
    LLAMA,
    GPT2,
    CONFIGS,
    Source,
    loud_model,
    stored,
    encoded,
    dequantized,
    kernels,
    sequence,
    whole,
) = (
    MODELS[name]
    for name in (
        "NUM_BLOCKS",
        "NATIVE",
        "LLAMA",
        "GPT2",
        "CONFIGS",
        "Source",
        "loud_model",
        "stored",
        "encoded",
        "dequantized",
        "kernels",
        "sequence",
        "whole",
    )
)

every_level = pytest.mark.parametrize("level", LEVELS)


@every_level
@pytest.mark.parametrize("name", CONFIGS)
def test_fp32_weights_equal_torch_on_every_shape(name: str, level: str) -> None:
    model = loud_model(CONFIGS[name])
    tokens = sequence(model.config, 90)
    rows = [Row(tokens[:70], 0, range(6), 0)], [Row(tokens[70:], 70, range(6), 0)]
    reference = TorchRunner(model, num_blocks=NUM_BLOCKS)
    with kernels(encoded(model, "f32"), level) as runner:
        for row in rows:
            got, expected = runner.step(row, hidden=True), reference.step(row, hidden=True)
            assert got.hidden is not None and expected.hidden is not None
            assert np.abs(got.logits - expected.logits).max() <= 1e-4
            assert np.abs(got.hidden - expected.hidden).max() <= 1e-4


@every_level
@pytest.mark.parametrize(
    ("encoding", "bound"),
    [("f16", 1e-5), ("bf16", 0.02), ("q8_0", 0.06), ("q4_0", 0.06), ("q4_1", 0.06), ("q5_0", 0.06), ("q5_1", 0.06)],
)
def test_each_encoding_equals_torch_on_the_expanded_weights(encoding: Encoding, bound: float, level: str) -> None:
    source = encoded(loud_model(LLAMA), encoding)
    tokens = sequence(LLAMA, 60)
    expected = whole(TorchRunner(dequantized(source), num_blocks=NUM_BLOCKS), tokens)
    with kernels(source, level) as runner:
        error = whole(runner, tokens) - expected
    assert np.linalg.norm(error) <= bound * np.linalg.norm(expected)


@every_level
@pytest.mark.parametrize("encoding", ["q4_k", "q5_k", "q6_k"])
def test_blocks_of_256_equal_torch_on_the_expanded_weights(encoding: Encoding, level: str) -> None:
    """Any bytes are blocks, but for the f16 numbers: d, and for q4_k and q5_k the minima's, at 2."""
    config = replace(
        LLAMA, hidden_size=256, mlp=MlpConfig(512, "silu", gated=True), attention=AttentionConfig(8, 2, 32)
    )
    model, generator = loud_model(config), np.random.default_rng(0)
    row = BLOCK_FORMATS[encoding].bytes
    tensors = {}
    for name, value in model.named_parameters():
        if value.ndim == 1:
            tensors[name] = stored(value.detach().numpy(), "f32")
            continue
        blocks = generator.integers(0, 256, (value.numel() // 256, row), np.uint8)
        numbers = {208: 1.5e-5} if encoding == "q6_k" else {0: 1e-4, 2: 8e-4 if encoding == "q4_k" else 1.6e-3}
        for offset, number in numbers.items():
            blocks[:, offset : offset + 2] = np.frombuffer(np.float16(number).tobytes(), np.uint8)
        tensors[name] = StoredTensor(encoding, tuple(value.shape), blocks.reshape(len(value), -1))
    source, tokens = Source(config, tensors), sequence(config, 60)
    expected = whole(TorchRunner(dequantized(source), num_blocks=NUM_BLOCKS), tokens)
    with kernels(source, level) as runner:
        error = whole(runner, tokens) - expected
    assert np.linalg.norm(error) <= 0.06 * np.linalg.norm(expected)


def test_a_table_of_another_encoding_than_the_blocks_serves_as_embedding_and_head() -> None:
    model = loud_model(LLAMA)
    source = encoded(model, "q4_1")
    source.tensors = {**source.tensors, "embed_tokens.weight": encoded(model, "q8_0").tensors["embed_tokens.weight"]}
    tokens = sequence(LLAMA, 20)
    expected = whole(TorchRunner(dequantized(source), num_blocks=NUM_BLOCKS), tokens)
    with kernels(source, LEVELS[-1]) as runner:
        assert np.linalg.norm(whole(runner, tokens) - expected) <= 0.06 * np.linalg.norm(expected)


def cut(data: st.DataObject, tokens: NDArray[np.int32], blocks: Sequence[int]) -> list[Row]:
    ends = sorted(data.draw(st.sets(st.integers(1, len(tokens) - 1), max_size=6)) | {0, len(tokens)})
    return [Row(tokens[start:end], start, blocks, 0) for start, end in itertools.pairwise(ends)]


Open = Callable[[Any, int], CompiledRunner]


@every_level
@pytest.mark.parametrize("encoding", NATIVE)
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_a_row_has_the_same_bits_however_it_is_cut_and_whoever_is_beside_it(
    config: TransformerConfig, encoding: Encoding, level: str
) -> None:
    if config is GPT2 and encoding.startswith("q"):
        encoding, config = "q8_0", replace(config, hidden_size=64, mlp=replace(config.mlp, intermediate_size=160))
        config = replace(config, attention=replace(config.attention, head_dim=24, num_heads=4))
    source = encoded(loud_model(config), encoding)
    with kernels(source, level, threads=1) as alone, kernels(source, level, threads=3) as shared:
        check_law(config, alone, shared)


@every_level
@pytest.mark.parametrize("encoding", ["f32", "q8_0"])
@pytest.mark.parametrize("name", list(CONFIGS)[10:])
def test_the_law_holds_with_every_switch(name: str, encoding: Encoding, level: str) -> None:
    config = CONFIGS[name]
    if encoding == "q8_0":  # whole blocks of 32
        config = replace(config, hidden_size=64, mlp=replace(config.mlp, intermediate_size=96))
        config = replace(config, attention=replace(config.attention, head_dim=32))
    source = encoded(loud_model(config), encoding)
    with kernels(source, level, threads=1) as alone, kernels(source, level, threads=3) as shared:
        check_law(config, alone, shared)


@every_level
def test_blocks_behind_every_window_may_be_used_again(level: str) -> None:
    config = replace(LLAMA, windows=(20, 9))
    source, tokens = encoded(loud_model(config), "bf16"), sequence(config, 120)
    with kernels(source, level) as runner:
        expected = whole(runner, tokens)
        ring = [block % 3 for block in range(8)]  # a token sees 20 positions, which touch three blocks at most
        got = [runner.step([Row(tokens[t : t + 1], t, ring, 0)]).logits for t in range(len(tokens))]
        assert np.array_equal(np.concatenate(got), expected)


@every_level
@pytest.mark.parametrize("name", ["llama", "tiny heads", "wide heads", "soft caps", "alibi"])
def test_keys_and_values_in_int8_are_near_and_hold_the_law(name: str, level: str) -> None:
    config = CONFIGS[name]
    source, tokens = encoded(loud_model(config), "f32"), sequence(config, 90)
    with (
        kernels(source, level, threads=1, kv_cache="int8") as alone,
        kernels(source, level, threads=3, kv_cache="int8") as shared,
        kernels(source, level) as exact,
    ):
        expected = whole(exact, tokens)
        error = np.linalg.norm(whole(alone, tokens) - expected) / np.linalg.norm(expected)
        assert 1e-5 < error <= 0.03
        check_law(config, alone, shared)


def test_the_cache_can_be_asked_for_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    source, tokens = encoded(loud_model(LLAMA), "f32"), sequence(LLAMA, 20)
    with kernels(source, LEVELS[-1], kv_cache="int8") as runner:
        expected = whole(runner, tokens)
    monkeypatch.setenv("OCTAVO_KV_CACHE", "int8")
    with kernels(source, LEVELS[-1]) as runner:
        assert np.array_equal(whole(runner, tokens), expected)
    monkeypatch.setenv("OCTAVO_KV_CACHE", "int4")
    with pytest.raises(OctavoError, match="OCTAVO_KV_CACHE='int4' is not int8"):
        CompiledRunner(source, num_blocks=1)


def check_law(config: TransformerConfig, alone: CompiledRunner, shared: CompiledRunner) -> None:
    @settings(max_examples=8, deadline=None)
    @given(data=st.data())
    def law(data: st.DataObject) -> None:
        count = data.draw(st.integers(1, 11))
        sequences = [sequence(config, data.draw(st.integers(2, 32)), seed=index) for index in range(count)]
        free = data.draw(st.permutations(range(NUM_BLOCKS)))
        cuts = [cut(data, tokens, free[2 * index : 2 * index + 2]) for index, tokens in enumerate(sequences)]
        got: list[list[NDArray[np.float32]]] = [[] for _ in sequences]
        for together in itertools.zip_longest(*cuts):
            present = [(index, row) for index, row in enumerate(together) if row is not None]
            logits = shared.step([row for _, row in present]).logits
            parts = np.split(logits, np.cumsum([len(row.tokens) for _, row in present])[:-1])
            for (index, _), part in zip(present, parts, strict=True):
                got[index].append(part)
        for tokens, parts in zip(sequences, got, strict=True):
            assert np.array_equal(np.concatenate(parts), whole(alone, tokens))

    law()


def test_only_the_wanted_positions_come_back() -> None:
    tokens = sequence(LLAMA, 30)
    with kernels(encoded(loud_model(LLAMA), "f32"), LEVELS[-1]) as runner:
        everything = whole(runner, tokens)
        rows = [Row(tokens, 0, (0, 1), 28), Row(tokens, 0, (2, 3), 30), Row(tokens[:5], 0, (4,), 4)]
        out = runner.step(rows)
        assert out.hidden is None
        assert np.array_equal(out.logits, everything[[28, 29, 4]])
        assert runner.step(rows[1:2]).logits.shape == (0, LLAMA.vocab_size)


def test_refresh_takes_over_changed_weights() -> None:
    source, tokens = encoded(loud_model(LLAMA), "f32"), sequence(LLAMA, 9)
    with kernels(source, LEVELS[-1]) as runner:
        before = whole(runner, tokens)
        source.tensors = {
            **source.tensors,
            "blocks.1.mlp.up.weight": stored(source.tensors["blocks.0.mlp.up.weight"].dequantize(), "f32"),
            "norm.weight": stored(2 * source.tensors["norm.weight"].dequantize(), "f32"),
        }
        assert np.array_equal(whole(runner, tokens), before)
        runner.refresh()
        expected = whole(TorchRunner(dequantized(source), num_blocks=NUM_BLOCKS), tokens)
        assert np.abs(whole(runner, tokens) - expected).max() <= 1e-4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row(np.array([65], np.int32), 0, [0], 0), "token id 65 is not in 0 .. 64"),
        (Row(np.array([-1], np.int32), 0, [0], 0), "token id -1"),
        (Row(np.array([1], np.int32), 128, range(9), 0), "position 128 is not in 0 .. 127"),
        (Row(np.array([1], np.int32), -1, [0], 0), "position -1"),
        (Row(np.array([1], np.int32), 16, [0], 0), "17 positions need 2 blocks, not 1"),
        (Row(np.array([1], np.int32), 0, [NUM_BLOCKS], 0), "block id 24"),
        (Row(np.array([1], np.int32), 0, [0], 2), "logits_from 2"),
        (Row(np.array([1.0]), 0, [0], 0), "int32"),  # type: ignore[arg-type]
        (Row(np.array([], np.int32), 0, [0], 0), "at least one"),
        (Row(np.zeros(513, np.int32), 0, range(33), 0), "1 to 512 tokens, not 513"),
    ],
)
def test_what_is_out_of_range_is_an_error_before_it_reaches_c(row: Row, message: str) -> None:
    with kernels(encoded(loud_model(LLAMA), "f32"), "c") as runner, pytest.raises(ValueError, match=message):
        runner.step([row])


def test_a_closed_runner_says_so_and_closes_again() -> None:
    with kernels(encoded(loud_model(LLAMA), "f32"), "c") as runner:
        runner.close()
        with pytest.raises(ValueError, match="closed"):
            whole(runner, sequence(LLAMA, 3))


def test_a_missing_or_misshapen_tensor_is_named() -> None:
    source = encoded(loud_model(LLAMA), "f32")
    name = "blocks.1.mlp.down.weight"
    tensors = dict(source.tensors)
    for wrong in (None, StoredTensor.from_array(np.zeros((64, 64), np.float32))):
        tensors.pop(name, None)
        if wrong is not None:
            tensors[name] = wrong
        with pytest.raises(FormatError, match=name):
            CompiledRunner(Source(LLAMA, tensors), num_blocks=1)


def test_shapes_without_kernels_are_refused_by_value() -> None:
    wide = replace(LLAMA, attention=AttentionConfig(1, 1, 592))
    uneven = replace(LLAMA, attention=AttentionConfig(5, 2, 16))
    for config, words in ((wide, "592"), (uneven, "5 heads")):
        with pytest.raises(UnsupportedError, match=words):
            CompiledRunner(Source(config, {}), num_blocks=1)


def test_blocks_are_the_kernels_blocks() -> None:
    assert BLOCK_SIZE == 16
