"""Latent attention on the kernels: odd widths, blocks of weights, small caches, and what is kept of a token."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.errors import MissingDependencyError, UnsupportedError
from octavo.models.compiled import CompiledRunner
from octavo.models.kernel_plan import plan
from octavo.models.runner import Row
from octavo.models.transformer import TorchRunner
from octavo.nn.config import AttentionConfig, LatentConfig, RopeConfig
from octavo.nn.kernels import binding

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

COMPILED: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("kernel_models.py")))
CONFIGS, kernels, encoded, dequantized, loud_model, sequence, whole = (
    COMPILED[name] for name in ("CONFIGS", "kernels", "encoded", "dequantized", "loud_model", "sequence", "whole")
)
ODD = replace(
    CONFIGS["llama"],
    attention=AttentionConfig(5, 5, 19, qkv_bias=True, latent=LatentConfig(21, 23, 37)),
    rope=RopeConfig(1e4, 6, None, 1.3),
    tie_embeddings=False,
)


@pytest.mark.parametrize("level", LEVELS)
def test_widths_that_fill_no_vector_equal_torch_in_a_prompt_and_token_by_token(level: str) -> None:
    model, tokens = loud_model(ODD), sequence(ODD, 40)
    expected = whole(TorchRunner(model, num_blocks=24), tokens)
    with kernels(encoded(model, "f32"), level, threads=3) as runner:
        assert np.abs(whole(runner, tokens) - expected).max() <= 1e-4
        for at in range(30, 40):
            logits = runner.step([Row(tokens[at : at + 1], at, range(24), 0)]).logits
            assert np.abs(logits - expected[at]).max() <= 1e-4


@pytest.mark.parametrize(
    ("encoding", "cache", "bound"), [("q8_0", None, 0.06), ("bf16", None, 0.03), ("f32", "int8", 0.04)]
)
def test_weights_in_blocks_and_small_caches_are_near(encoding: str, cache: str | None, bound: float) -> None:
    source = encoded(loud_model(CONFIGS["latent, with queries of low rank"]), encoding)
    tokens = sequence(source.config, 60)
    expected = whole(TorchRunner(dequantized(source), num_blocks=24), tokens)
    with kernels(source, LEVELS[-1], kv_cache=cache) as runner:
        error = np.linalg.norm(whole(runner, tokens) - expected) / np.linalg.norm(expected)
        assert 1e-5 < error <= bound


def test_one_latent_vector_is_kept_of_a_token_whatever_the_heads() -> None:
    few, many = (
        plan(replace(ODD, attention=replace(ODD.attention, num_heads=heads, num_kv_heads=heads)), 64).shape
        for heads in (2, 64)
    )
    assert few["num_kv_heads"] == many["num_kv_heads"] == 1
    assert few["head_dim"] == many["head_dim"] == 21 + 6


def test_a_placement_or_a_width_that_is_not_known_is_refused_by_name() -> None:
    wide = replace(ODD, attention=replace(ODD.attention, latent=LatentConfig(600, None, 16)))
    for config, words in ((replace(ODD, placement="sandwich"), "placement sandwich"), (wide, "not 606")):
        with pytest.raises(UnsupportedError, match=words):
            CompiledRunner(COMPILED["Source"](config, {}), num_blocks=1)
