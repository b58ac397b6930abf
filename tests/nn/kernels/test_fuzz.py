"""Models of any shape, odd sizes above all, on every level against torch: what no list of cases thinks of.

Sizes, switches, encodings, kinds of cache and cuts of the prompt are drawn; weights of blocks are any bytes. Numbers
that are not finite stay in the row that made them, and arrays at odd addresses are read as they are or refused.
"""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError
from octavo.models.runner import Row
from octavo.models.tensors import StoredTensor
from octavo.nn.config import AttentionConfig, MlpConfig, MoeConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.nn.encodings import BLOCK_FORMATS
from octavo.nn.kernels import binding
from octavo.nn.kernels.encoder_handle import KernelEncoder
from octavo.nn.kernels.handle import KernelModel, Rotary, checksum, product, quantize
from octavo.nn.kernels.indices import Indices
from octavo.nn.kernels.layers import Layer
from octavo.nn.kernels.tables import codes

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)
TESTS = Path(__file__).parents[2]
MODELS: dict[str, Any] = runpy.run_path(str(TESTS / "models/kernel_models.py"))
PRODUCTS: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("test_products.py")))
every_level = pytest.mark.parametrize("level", LEVELS)


@st.composite
def configs(draw: st.DrawFn, unit: int = 1) -> TransformerConfig:
    """unit: what the widths of all matrices are multiples of."""
    kv_heads, group = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 5, 13]))
    layers, hidden = draw(st.integers(1, 2)), unit * draw(st.integers(1, max(1, 70 // unit)))
    head_dim = draw(st.integers(1, 40)) if unit == 1 else unit
    inner = unit * draw(st.integers(1, max(1, 80 // unit)))
    gated = draw(st.booleans())
    special = draw(st.sampled_from(["none", "softcap", "sinks", "alibi", "qk_norm"]))
    attention = AttentionConfig(
        kv_heads * group, kv_heads, head_dim, qkv_bias=draw(st.booleans()), output_bias=draw(st.booleans()),
        softcap=3.0 if special == "softcap" else None, sinks=special == "sinks", alibi=special == "alibi",
        qk_norm="head" if special == "qk_norm" else None,
    )  # fmt: skip
    rope = None
    if special != "alibi" and head_dim > 1 and draw(st.booleans()):
        rope = RopeConfig(1e4, 2 * draw(st.integers(1, head_dim // 2)))
    return TransformerConfig(
        vocab_size=draw(st.integers(2, 90)),
        hidden_size=hidden,
        num_layers=layers,
        context_length=96,
        norm=NormConfig(draw(st.sampled_from(["rms", "layer", "layer_without_bias"])), 1e-3),
        attention=attention,
        mlp=MlpConfig(inner, draw(st.sampled_from(["silu", "gelu", "gelu_tanh", "relu"])), gated=gated),
        rope=rope,
        tie_embeddings=draw(st.booleans()),
        windows=tuple(draw(st.sampled_from([None, 1, 7, 33])) for _ in range(layers)) if draw(st.booleans()) else (),
        moe=draw(experts(layers, unit)) if gated and draw(st.booleans()) else None,
    )


@st.composite
def experts(draw: st.DrawFn, layers: int, unit: int) -> MoeConfig:
    groups, size = draw(st.sampled_from([(1, 1), (1, 5), (1, 9), (2, 3), (4, 2)]))
    kept = draw(st.integers(1, groups))
    shared = unit * draw(st.integers(1, 2)) if draw(st.booleans()) else None
    return MoeConfig(
        groups * size, draw(st.integers(1, min(3, kept * size))), unit * draw(st.integers(1, max(1, 60 // unit))),
        draw(st.booleans()), shared, tuple(draw(st.booleans()) for _ in range(layers)),
        scoring=draw(st.sampled_from(["softmax", "sigmoid"])), scale=draw(st.sampled_from([1.0, 2.5])),
        shared_gate=shared is not None and draw(st.booleans()), groups=groups, groups_kept=kept,
        group_top=draw(st.integers(1, min(2, size))), correction=draw(st.booleans()),
    )  # fmt: skip


def logits(runner: Any, tokens: NDArray[np.int32], cut: int) -> NDArray[np.float32]:
    blocks = range(6)
    parts = [Row(part, at, blocks, 0) for part, at in ((tokens[:cut], 0), (tokens[cut:], cut)) if len(part)]
    return np.concatenate([runner.step([part]).logits for part in parts])


@every_level
def test_any_model_equals_torch(level: str) -> None:
    @settings(max_examples=12, deadline=None)
    @given(config=configs(), length=st.integers(1, 90), cut=st.integers(0, 90))
    def law(config: TransformerConfig, length: int, cut: int) -> None:
        model, tokens = MODELS["loud_model"](config), MODELS["sequence"](config, length)
        with MODELS["kernels"](MODELS["encoded"](model, "f32"), level) as runner:
            got = logits(runner, tokens, min(cut, length))
        expected = logits(MODELS["TorchRunner"](model, num_blocks=MODELS["NUM_BLOCKS"]), tokens, length)
        assert np.isfinite(expected).all()
        assert np.abs(got - expected).max() <= 3e-4 * max(1.0, float(np.abs(expected).max()))

    law()


STEPS = {"q8_0": 64, "q5_0": 8, "q5_1": 12, "q4_k": 300, "q5_k": 600, "q6_k": 1200}
"""About how many of a block's smallest steps its values span; others: 6."""
MINIMA = {"q4_1": -7.5, "q5_1": -15.5, "q4_k": 7.5, "q5_k": 15.5}
"""Times the first number of a block, what its second is, so that values are on both sides of zero."""


def any_weights(config: TransformerConfig, encoding: str, seed: int) -> Any:
    """Matrices of random blocks of about the size that keeps a model's numbers near one; vectors as in `loud_model`."""
    source = MODELS["encoded"](MODELS["loud_model"](config), "f32")
    form = BLOCK_FORMATS[encoding]  # type: ignore[index]
    tensors = {}
    for index, (name, tensor) in enumerate(source.tensors.items()):
        tensors[name] = tensor
        if len(tensor.shape) != 2 or tensor.shape[1] % form.weights:
            continue
        data = PRODUCTS["matrix"](encoding, *tensor.shape, seed + index)
        blocks = data.reshape(-1, form.bytes)
        step = 1 / (STEPS.get(encoding, 6) * tensor.shape[1] ** 0.5)
        for offset, times in zip(PRODUCTS["HALVES"][encoding], (1, MINIMA.get(encoding)), strict=False):
            blocks[:, offset : offset + 2] = np.frombuffer(np.float16(step * times).tobytes(), np.uint8)
        tensors[name] = StoredTensor(encoding, tensor.shape, data)  # type: ignore[arg-type]
    return MODELS["Source"](config, tensors)


@every_level
@pytest.mark.parametrize("encoding", [name for name in codes.ENCODINGS if name not in ("f32", "bf16", "int8")])
def test_any_model_of_any_blocks_is_near_torch_on_their_values(encoding: str, level: str) -> None:
    """Activations and perhaps the cache are 8 bits wide there, so the bound is that of `test_compiled.py`."""
    unit = BLOCK_FORMATS[encoding].weights  # type: ignore[index]

    @settings(max_examples=3, deadline=None)
    @given(config=configs(unit), seed=st.integers(0, 999), int8_cache=st.booleans())
    def law(config: TransformerConfig, seed: int, int8_cache: bool) -> None:
        assume(config.attention.softcap is None)
        config = replace(config, moe=None if config.moe is None else replace(config.moe, groups=1, groups_kept=1))
        source, tokens = any_weights(config, encoding, seed), MODELS["sequence"](config, 40)
        reference = MODELS["TorchRunner"](MODELS["dequantized"](source), num_blocks=MODELS["NUM_BLOCKS"])
        expected = logits(reference, tokens, 40)
        with MODELS["kernels"](source, level, kv_cache="int8" if int8_cache else None) as runner:
            got = logits(runner, tokens, 17)
        assert np.isfinite(got).all()
        per_token = np.linalg.norm(got - expected, axis=-1) / (np.linalg.norm(expected, axis=-1) + 1e-6)
        assert np.median(per_token) <= 0.15

    law()


@every_level
@pytest.mark.parametrize("kind", [np.nan, np.inf, 3e38])
def test_a_token_whose_embedding_is_not_finite_spoils_its_own_row_alone(kind: float, level: str) -> None:
    for name in ("llama", "experts", "sinks"):
        config = replace(MODELS["CONFIGS"][name], tie_embeddings=False)
        source = MODELS["encoded"](MODELS["loud_model"](config), "f32")
        table = source.tensors["embed_tokens.weight"].dequantize().copy()
        table[7, 3] = kind
        source.tensors = {**source.tensors, "embed_tokens.weight": StoredTensor.from_array(table)}
        ill, well = np.array([7, 5, 6], np.int32), np.array([1, 2, 3], np.int32)
        with MODELS["kernels"](source, level) as runner:
            expected = runner.step([Row(well, 0, [0], 0)]).logits
            both = runner.step([Row(well, 0, [0], 0), Row(ill, 0, [1], 0)]).logits
            assert np.array_equal(both[:3], expected)
            assert not np.isfinite(both[3]).all() or kind == 3e38
            assert np.array_equal(runner.step([Row(well, 0, [1], 0)]).logits, expected)  # nothing is left behind


@every_level
@pytest.mark.parametrize("cache", ["bf16", "int8", "f32"])
def test_what_is_no_number_stays_so_in_the_cache_whatever_its_bits(cache: str, level: str) -> None:
    """All bits set would become -0 when they were rounded to bfloat16 as those of a number are."""
    config = replace(MODELS["CONFIGS"]["experts"], tie_embeddings=False)
    source = MODELS["encoded"](MODELS["loud_model"](config), "f32")
    table = source.tensors["embed_tokens.weight"].dequantize().copy()
    table[7] = np.uint32(0x7FFFFFFF).view(np.float32)
    source.tensors = {**source.tensors, "embed_tokens.weight": StoredTensor.from_array(table)}
    with MODELS["kernels"](source, level, kv_cache=cache) as runner:
        runner.step([Row(np.full(60, 7, np.int32), 0, range(4), 0)])  # as many tokens as make one expert's rows many
        assert not np.isfinite(runner.step([Row(np.array([5], np.int32), 60, range(4), 0)]).logits).any()


def at_odd_address(array: NDArray[Any]) -> Any:
    store = np.empty(array.nbytes + 1, np.uint8)
    store[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return store[1:].view(array.dtype).reshape(array.shape)


@every_level
@pytest.mark.parametrize("encoding", codes.ENCODINGS)
def test_products_read_matrices_and_rows_at_odd_addresses(encoding: str, level: str) -> None:
    data = PRODUCTS["matrix"](encoding, 37, 256, 5)
    x = np.random.default_rng(6).standard_normal((9, 256)).astype(np.float32)
    expected = product(level, encoding, 37, 256, data, x)
    assert np.array_equal(product(level, encoding, 37, 256, at_odd_address(data), at_odd_address(x)), expected)


def test_quantising_and_checksums_read_odd_addresses() -> None:
    data = PRODUCTS["matrix"]("f32", 5, 64, 7)
    for target in ("int8", "q4_0", "q4_1"):
        expected = quantize(target, "f32", 5, 64, data)
        assert np.array_equal(quantize(target, "f32", 5, 64, at_odd_address(data)), expected)
    for size in (0, 1, 63, 64, 65, 1000):
        part = data.reshape(-1)[:size]
        assert checksum(at_odd_address(part)) == checksum(part)


def test_a_step_copies_its_indices_and_c_refuses_each_that_is_out_of_range() -> None:
    sizes = {
        "vocab_size": 8, "hidden_size": 16, "context_length": 32, "num_heads": 1, "num_kv_heads": 1, "head_dim": 16,
        "intermediate_size": 16, "gated": 0, "activation": 3, "norm_kind": 0, "norm_eps": 1e-5, "attention_scale": 1.0,
        "num_blocks": 2, "threads": 1, "cache": 1, "num_adapters": 1, "adapter_rank": 1,
    }  # fmt: skip
    model = KernelModel(LEVELS[-1], [Layer()], [Rotary(np.zeros(1))], **sizes)
    lawful = Indices([7, 0], [0, 1], [31, 0], [[0, 1], [1]], [0, 1], adapters=[0, -1], embedded=[-1, 0])
    whole = (1, 2**31 - 1, -1, -(2**31))
    for name, wrong in {
        "tokens": (8, *whole[1:]), "rows": (2, *whole[1:]), "positions": (32, *whole[1:]), "tables": (2, *whole[1:]),
        "wanted": (2, *whole[1:]), "adapters": (1, 2**31 - 1, -2, -(2**31)), "embedded": (1, 2**31 - 1, -2, -(2**31)),
    }.items():  # fmt: skip
        for value in (*wrong, 2**31, -(2**40), 0.5):
            for place in (0, 1):
                values = list(getattr(lawful, name))
                values[place] = [0, value] if name == "tables" else value
                with pytest.raises(ValueError):
                    model.step(replace(lawful, **{name: values}), hidden=False, embedding=np.zeros((1, 16), np.float32))
    for name in ("rows", "positions", "adapters", "embedded"):
        with pytest.raises(ValueError, match="each token"):
            model.step(replace(lawful, **{name: [0]}), hidden=False)
    with pytest.raises(ValueError, match="embedding 0 is not"):
        model.step(lawful, hidden=False)  # there are no embeddings
    model.close()


@every_level
def test_any_encoder_holds_a_text_alone_and_reads_tables_at_odd_addresses(level: str) -> None:
    @settings(max_examples=8, deadline=None)
    @given(
        heads=st.integers(1, 4), head_dim=st.integers(1, 40), inner=st.integers(1, 90), layers=st.integers(1, 2),
        lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), encoding=st.sampled_from(["f32", "bf16"]),
        activation=st.integers(0, 3), threads=st.integers(1, 3),
    )  # fmt: skip
    def law(
        heads: int, head_dim: int, inner: int, layers: int, lengths: list[int], encoding: str, activation: int,
        threads: int,
    ) -> None:  # fmt: skip
        width, generator = heads * head_dim, np.random.default_rng(0)
        model = KernelEncoder(
            level, hidden_size=width, num_layers=layers, num_heads=heads, head_dim=head_dim, intermediate_size=inner,
            activation=activation, longest=40, threads=threads, exact=int(encoding == "f32"), norm_eps=1e-5,
        )  # fmt: skip
        for slot, rows in (("embed_tokens", 20), ("embed_positions", 40), ("embed_types", 2)):
            model.set_table(slot, at_odd_address(generator.standard_normal((rows, width)).astype(np.float32)))
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        model.set_norm(0, "embed_norm", ones, zeros)
        for layer in range(layers):
            for slot in ("q", "k", "v", "o", "up", "down"):
                shape = {"up": (inner, width), "down": (width, inner)}.get(slot, (width, width))
                data = PRODUCTS["matrix"](encoding, *shape, layer)
                model.set_matrix(layer, slot, encoding, data, np.zeros(shape[0], np.float32))  # type: ignore[arg-type]
            for slot in ("attention_output_norm", "mlp_output_norm"):
                model.set_norm(layer, slot, ones, zeros)
        tokens = generator.integers(0, 20, sum(lengths)).astype(np.int32)
        types = generator.integers(0, 2, sum(lengths)).astype(np.int32)
        together = model.encode(tokens, types, lengths)
        assert np.isfinite(together).all()
        assert np.abs(together.mean(-1)).max() < 1e-3, "the last thing is a norm without weights"
        starts = np.cumsum([0, *lengths])
        for start, length in zip(starts[:-1].tolist(), lengths, strict=True):
            alone = model.encode(tokens[start : start + length], types[start : start + length], [length])
            assert np.array_equal(alone, together[start : start + length])
        model.close()

    law()
