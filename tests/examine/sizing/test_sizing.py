"""Sizes from the config alone, against the built model, the live peer, and figures that others published."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from octavo.errors import OctavoError, UnknownNameError
from octavo.examine.sizing import cost
from octavo.examine.sizing.described import Described, describe
from octavo.examine.sizing.fit import Speeds, crossover, fit
from octavo.examine.sizing.machine import Gpu, Machine, parse_gpus, peak_flops, read_bandwidth, this_machine
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer

VARIANTS = runpy.run_path(str(Path(__file__).parents[2] / "parity/tiny.py"))["VARIANTS"]
MACHINE = Machine(free_memory=10**9, gpus=(), threads=2)
SPEEDS = Speeds(lambda size: 20e9, 100e9)

Tiny = Callable[[str], tuple[Path, PreTrainedModel]]

LLAMA_2_7B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_2_70B = {
    **LLAMA_2_7B, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8,
}  # fmt: skip
MIXTRAL_8X7B = {
    **LLAMA_2_7B, "model_type": "mixtral", "intermediate_size": 14336, "num_key_value_heads": 8, "rope_theta": 1e6,
    "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None, "max_position_embeddings": 32768,
}  # fmt: skip
MISTRAL_7B = {
    **LLAMA_2_7B, "model_type": "mistral", "intermediate_size": 14336, "num_key_value_heads": 8,
    "sliding_window": 4096, "max_position_embeddings": 32768,
}  # fmt: skip


def described(tmp_path: Path, raw: dict[str, Any]) -> Described:
    (tmp_path / "config.json").write_text(json.dumps(raw))
    return describe(str(tmp_path / "config.json"))


def peer_parameters(peer: PreTrainedModel) -> int:
    """The peer's parameters; routers' correction biases are buffers there, and the first two positions in the tables of
    OPT and BioGPT are never read."""
    total = sum(parameter.numel() for parameter in peer.parameters())
    total += sum(buffer.numel() for name, buffer in peer.named_buffers() if name.endswith("correction_bias"))
    return total - (2 * peer.config.hidden_size if peer.config.model_type in ("opt", "biogpt") else 0)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_equal_the_built_model_and_the_peer(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    config = open_checkpoint(folder).config
    with torch.device("meta"):
        built = Transformer(config)
    total = cost.count_parameters(config).total
    assert total == sum(parameter.numel() for parameter in built.parameters())
    assert total == peer_parameters(peer)


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt2", "qwen3", "falcon-40b", "cohere"])
def test_operations_equal_those_that_torch_counts(name: str, tiny: Tiny) -> None:
    """A pass over 20 tokens, all of whose scores the peer computes: torch's own tool counts its products."""
    folder, peer = tiny(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        peer(torch.zeros(1, 20, dtype=torch.long))
    counted = counter.get_total_flops()
    ours = 20 * cost.flops_per_token(open_checkpoint(folder).config, 20)
    assert 0.999 * counted <= ours <= counted  # the peer also multiplies for its rotary angles


@pytest.mark.parametrize(
    ("raw", "total", "active", "kv"),
    [
        (LLAMA_2_7B, 6_738_415_616, 6_738_415_616, 524_288),  # 0.5 MiB a token, as the vLLM paper has of OPT's kind
        (LLAMA_2_70B, 68_976_648_192, 68_976_648_192, 327_680),
        (MIXTRAL_8X7B, 46_702_792_704, 12_879_925_248, 131_072),  # "47B parameters, but only 13B active"
        (MISTRAL_7B, 7_241_732_096, 7_241_732_096, 131_072),
    ],
)
def test_published_models_have_their_published_sizes(
    raw: dict[str, Any], total: int, active: int, kv: int, tmp_path: Path
) -> None:
    found = fit(described(tmp_path, raw), MACHINE, SPEEDS)
    assert (found.parameters.total, found.parameters.active, found.kv_bytes_per_token) == (total, active, kv)


def test_a_window_bounds_what_is_read_of_the_cache(tmp_path: Path) -> None:
    config = described(tmp_path, MISTRAL_7B).config
    per_token = cost.kv_values_per_token(config)
    assert cost.kv_values(config, 100) == 100 * per_token
    assert cost.kv_values(config, 32768) == 4096 * per_token
    assert cost.flops_per_token(config, 32768) == cost.flops_per_token(config, 4096)


def test_the_shipped_model_has_the_golden_figures(smollm2: Path, golden: dict[str, Any]) -> None:
    found = fit(describe(str(smollm2)), MACHINE, SPEEDS, context=1)
    assert found.parameters.total == golden["config"]["n_params"]
    assert found.kv_bytes_per_token == 23_040
    stored = found.formats[-1]
    assert (stored.format, stored.weights) == ("as stored", 96_576_768)
    assert stored.tokens_per_second == pytest.approx(207, abs=0.5)


@given(context=st.integers(1, 4096), tied=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_longer_context_never_costs_less(context: int, tied: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = described(tmp_path_factory.mktemp("m"), {**LLAMA_2_7B, "tie_word_embeddings": tied})
    short, long = fit(model, MACHINE, SPEEDS, context=context), fit(model, MACHINE, SPEEDS)
    assert short.flops_per_token <= long.flops_per_token and short.kv_bytes <= long.kv_bytes
    for row, full in zip(short.formats, long.formats, strict=True):
        assert row.read <= row.memory <= full.memory
        assert row.tokens_per_second >= full.tokens_per_second
    weights = [row.weights for row in short.formats]
    assert weights == sorted(weights, reverse=True)


@given(st.floats(1e-6, 1e3), st.floats(1e-9, 1e2), st.floats(1e-9, 1e2))
def test_at_the_crossover_arithmetic_takes_over(weights: float, cache: float, computing: float) -> None:
    found = crossover(weights, cache, computing)
    if found is None:
        assert computing <= cache
    else:
        assert found * computing >= (weights + found * cache) * (1 - 1e-9)
        assert (found - 1) * computing <= (weights + (found - 1) * cache) * (1 + 1e-9)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    machine = Machine(8 * 10**9, (Gpu("card", 24 << 30, 23 << 30),), 2)
    found = fit(described(tmp_path, LLAMA_2_7B), machine, SPEEDS)
    fits = {row.format: (row.fits_memory, row.fits_gpu) for row in found.formats}
    assert fits == {
        "float32": (False, False), "bfloat16": (False, True), "int8": (False, True), "int4": (True, True),
    }  # fmt: skip
    unknown = fit(described(tmp_path, LLAMA_2_7B), Machine(None, (), 2), SPEEDS).formats[0]
    assert unknown.fits_memory is None and unknown.fits_gpu is None


def test_int8_and_int4_take_what_our_own_encodings_take(stories: Path) -> None:
    from octavo.nn.encodings import BLOCK_FORMATS

    config = open_checkpoint(stories).config
    assert cost.tensor_bytes((3, 64), "q4_0") == 3 * 2 * BLOCK_FORMATS["q4_0"].bytes
    assert cost.tensor_bytes((3, 172), "q4_0") == 3 * 172 * 2, "rows that are not whole blocks stay bfloat16"
    assert sum(cost.weight_sizes(config, "float32").values()) == 4 * 260_032


def test_a_folder_needs_no_weights_and_a_context_must_be_the_model_s(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B))
    model = describe(str(tmp_path))
    assert model.stored is None and model.name == tmp_path.name
    with pytest.raises(OctavoError, match=r"context is 5000; .* takes 1 to 4096"):
        fit(model, MACHINE, SPEEDS, context=5000)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA_2_7B, "model_type": "lama"}))
    with pytest.raises(UnknownNameError, match="did you mean 'llama'"):
        describe(str(tmp_path))


def test_this_machine_is_measured() -> None:
    assert this_machine().threads >= 1
    assert 1e8 < read_bandwidth(1 << 24) < 1e13
    assert 1e8 < peak_flops() < 1e15


def test_cards_are_read_from_the_driver_s_table() -> None:
    text = "NVIDIA H100 80GB HBM3, 81559, 81004\nOrin, [N/A], [N/A]\n"
    assert parse_gpus(text) == (Gpu("NVIDIA H100 80GB HBM3", 81559 << 20, 81004 << 20),)
