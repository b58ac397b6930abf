"""Qwen1.5 and Qwen2 with experts: Qwen2's graph, most MLPs replaced by experts beside one that all tokens share.

Source: arXiv 2407.10671, and the hub's `qwen2_moe` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, read_experts, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import EXPERTS, LAYER, LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = with_attention(read_decoder(reader, rms(reader)), qkv_bias=reader.flag("qkv_bias", default=True))
    return with_experts(reader, config, reader.integer("shared_expert_intermediate_size"))


def with_experts(reader: ConfigReader, config: TransformerConfig, shared_size: int | None) -> TransformerConfig:
    """The config with its experts."""
    normalise = reader.flag("norm_topk_prob", default=False)
    layers, size = config.num_layers, "moe_intermediate_size"
    experts = read_experts(reader, layers, size_key=size, normalise=normalise, shared_size=shared_size)
    return replace(config, moe=experts)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    shared = None if config.moe is None else config.moe.shared_size
    biased = {"qkv_bias": config.attention.qkv_bias, "shared_expert_intermediate_size": shared}
    return {**write_decoder(config), **write_experts(config), **biased}


def write_experts(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `with_experts`."""
    assert config.moe is not None, "a Qwen of this kind has experts"
    return {
        "num_experts": config.moe.num_experts,
        "num_experts_per_tok": config.moe.experts_per_token,
        "moe_intermediate_size": config.moe.intermediate_size,
        "norm_topk_prob": config.moe.normalise,
        "mlp_only_layers": [layer for layer, sparse in enumerate(config.moe.layers) if not sparse],
    }


SHARED = tuple(
    rule
    for name in ("gate", "up", "down")
    for rule in linear_rules(f"{LAYER}mlp.shared_expert.{name}_proj", f"blocks.{{i}}.mlp.shared.{name}")
)
GATE = KeyRule(LAYER + "mlp.shared_expert_gate.weight", ("blocks.{i}.mlp.shared_gate.weight",))
NO_WINDOW = {"use_sliding_window": (False,)}
HARMLESS = {
    **TRAINING_OF_EXPERTS,
    **dict.fromkeys(("sliding_window", "max_window_layers", "layer_types"), "read with use_sliding_window alone"),
}


def gguf_experts(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """What GGUF metadata of Qwen's with experts say, in hub spelling."""
    size = {"moe_intermediate_size": reader.integer("expert_feed_forward_length")}
    experts = gguf_decoder.expert_config(reader, "num_experts")
    return {**gguf_decoder.decoder_config(reader, present, theta=1e6, experts=True), **experts, **size}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `qwen2moe` in hub spelling."""
    shared = reader.integer("expert_shared_feed_forward_length")
    return {**gguf_experts(reader, present), "shared_expert_intermediate_size": shared}


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The keys of the experts' widths."""
    assert config.moe is not None, "it has experts"
    widths = (config.moe.intermediate_size, config.moe.shared_size)
    return dict(zip(("expert_feed_forward_length", "expert_shared_feed_forward_length"), widths, strict=True))


QWEN2_MOE = Family(
    name="qwen2_moe",
    architecture="Qwen2MoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*LLAMA_RULES, *EXPERTS, *SHARED, GATE),
    gguf=GgufLayout("qwen2moe", gguf_hub_config, (*gguf_names.RULES, *gguf_names.EXPERTS), metadata=gguf_metadata),
    harmless_keys=HARMLESS,
    neutral_values=NO_WINDOW,
)
