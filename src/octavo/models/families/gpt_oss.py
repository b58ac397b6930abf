"""gpt-oss: experts with clamped gates and biases for the MLP, sinks, a window of 128 tokens in every second block.

Published files hold the experts in MXFP4, with the rows of gate and up taking turns; converted ones in bfloat16, turned
round. Source: arXiv 2508.10925, and the hub's `gpt_oss` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_experts,
    read_layer_types,
    rms,
    window_keys,
    with_attention,
    with_biases,
    write_decoder,
)
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule, Layout, linear_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, LAYER, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm, bias = rms(reader, round_last=True), reader.flag("attention_bias", default=True)
    config = read_decoder(reader, norm, head_dim=64, rope=RopeSpelling(theta=150000.0))
    config = with_attention(with_biases(config, qkv=bias, output=bias, mlp=True), sinks=True)
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer % 2 == 0)
    size = reader.integer("sliding_window", default=128)
    experts = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=True)
    reader.neutral({"swiglu_alpha": (1.702,), "experts_per_token": (experts.experts_per_token,)})
    return replace(
        config,
        mlp=replace(config.mlp, activation="quick_gelu", limit=reader.number("swiglu_limit", default=7.0)),
        windows=tuple(size if slide else None for slide in slides),
        moe=replace(experts, bias=True),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.moe is not None, "a gpt-oss has experts"
    written = write_decoder(config)
    return {
        **written,
        "rope_scaling": written["rope_scaling"] or {"rope_type": "default"},  # said nothing, peers take a yarn
        "hidden_act": "silu",
        "attention_bias": config.attention.qkv_bias,
        "num_local_experts": config.moe.num_experts,
        "num_experts_per_tok": config.moe.experts_per_token,
        "swiglu_limit": config.mlp.limit,
        **window_keys(config),
    }


EXPERTS, EXPERT = LAYER + "mlp.experts.", "blocks.{i}.mlp.experts.{e}."


def _gate_up(stored: str, leaf: str, layout: Layout) -> KeyRule:
    return KeyRule(EXPERTS + stored, (f"{EXPERT}gate.{leaf}", f"{EXPERT}up.{leaf}"), layout, interleaved=True)


RULES = (
    *BODY,
    *ATTENTION,
    KeyRule(LAYER + "self_attn.sinks", ("blocks.{i}.attention.sinks",)),
    *PRE_NORMS,
    *linear_rules(LAYER + "mlp.router", "blocks.{i}.mlp.router"),
    _gate_up("gate_up_proj", "weight", "swapped_experts"),
    _gate_up("gate_up_proj_blocks", "weight", "experts"),
    _gate_up("gate_up_proj_bias", "bias", "experts"),
    KeyRule(EXPERTS + "down_proj", (EXPERT + "down.weight",), "swapped_experts"),
    KeyRule(EXPERTS + "down_proj_blocks", (EXPERT + "down.weight",), "experts"),
    KeyRule(EXPERTS + "down_proj_bias", (EXPERT + "down.bias",), "experts"),
)


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `gpt-oss` in hub spelling."""
    experts = gguf_decoder.expert_config(reader, "num_local_experts")
    size = reader.integer("expert_feed_forward_length")
    config = gguf_decoder.decoder_config(reader, present, experts=True)
    window, scaling = reader.integer("attention.sliding_window"), config["rope_scaling"]
    if scaling is not None:  # the published yarn is not cut to whole features, which files do not say
        config["rope_scaling"] = {**scaling, "truncate": False}
    return {**config, **experts, "intermediate_size": size, "sliding_window": window}


GGUF_RULES = (
    *gguf_names.LATE_RULES,
    *gguf_names.EXPERTS,
    KeyRule("blk.{i}.attn_sinks.weight", ("blocks.{i}.attention.sinks",)),
)

GPT_OSS = Family(
    name="gpt_oss",
    architecture="GptOssForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    gguf=GgufLayout(
        "gpt-oss",
        gguf_hub_config,
        GGUF_RULES,
        metadata=lambda config: {"expert_feed_forward_length": config.mlp.intermediate_size},
    ),
    harmless_keys={**TRAINING_OF_EXPERTS, "initial_context_length": "the rotary part says it"},
)
