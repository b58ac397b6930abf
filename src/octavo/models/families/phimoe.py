"""Phi-3.5-MoE: Phi-3's graph with LayerNorm, and experts that a sparse mixer chooses one after the other.

Source: arXiv 2404.14219, 2409.12136, and the hub's `phimoe` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.errors import UnsupportedError
from octavo.models.families.phi3 import ORIGINAL
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_experts,
    window_size,
    with_biases,
    with_windows,
    write_decoder,
)
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import expert_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, LAYER, PRE_NORMS
from octavo.nn.config import NormConfig, TransformerConfig

SCALES = ("short_mscale", "long_mscale")


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm = NormConfig("layer", reader.number("rms_norm_eps", default=1e-5))
    config = _with_scale(read_decoder(reader, norm, rope=RopeSpelling(theta=1e6)), reader)
    bias = reader.flag("attention_bias", default=False)
    config = with_windows(
        with_biases(config, qkv=bias, output=bias),
        (True,) * config.num_layers,
        reader.optional_integer("sliding_window", None),
    )
    experts = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=False)
    jitter = reader.number("router_jitter_noise", default=0.01)
    experts = replace(experts, scoring="sparse_mixer", jitter=jitter)
    return replace(config, head_bias=reader.flag("lm_head_bias", default=False), moe=experts)


def _with_scale(config: TransformerConfig, reader: ConfigReader) -> TransformerConfig:
    """What cosines and sines are multiplied by, which has names of its own here."""
    reader.integer(ORIGINAL, default=1)
    section = reader.section("rope_parameters", "rope_scaling")
    if config.rope is None or section is None or not section.has(SCALES[0]):
        return config
    short, long = (section.number(key) for key in SCALES)
    if short != long:
        raise UnsupportedError(f"{reader.source} has short_mscale {short} and another long_mscale, {long}")
    return replace(config, rope=replace(config.rope, attention_factor=short))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    moe, rope, written = config.moe, config.rope, write_decoder(config)
    assert moe is not None and rope is not None, "a Phi-3.5-MoE has experts, and its heads turn"
    if written["rope_scaling"] is not None:
        written["rope_scaling"].update(dict.fromkeys(SCALES, rope.attention_factor))
    return {
        "rms_norm_eps": written.pop("layer_norm_eps"),
        **written,
        "attention_bias": config.attention.qkv_bias,
        "lm_head_bias": config.head_bias,
        "sliding_window": window_size(config),
        "num_local_experts": moe.num_experts,
        "num_experts_per_tok": moe.experts_per_token,
        "router_jitter_noise": moe.jitter,
    }


PHIMOE = Family(
    name="phimoe",
    architecture="PhimoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY,
        *ATTENTION,
        *expert_rules(LAYER + "block_sparse_moe.", {"w1": "gate", "w3": "up", "w2": "down"}),
        *PRE_NORMS,
    ),
    harmless_keys={
        **{key: why for key, why in TRAINING_OF_EXPERTS.items() if key != "router_jitter_noise"},
        **dict.fromkeys(("input_jitter_noise", "hidden_dropout"), "training only"),
    },
    neutral_values={"num_experts_per_tok": (2,)},  # the mixer is of two
)
