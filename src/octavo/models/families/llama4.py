"""LLaMA 4, the language model: experts whose input is scaled by their score beside one that all tokens go to, heads
normalised without weights after they have turned, attention within chunks, and blocks without rotary embedding that
see all and whose queries grow with their position.

Source: the hub's `llama4_text` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_experts,
    rms,
    window_size,
    with_attention,
    with_biases,
    with_windows,
    write_decoder,
)
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import BLOCK, BODY, GATED, LAYER, PAIR_PROJECTIONS, PRE_NORMS
from octavo.models.mapping.tables.spellings import FULL
from octavo.nn.config import GrowthConfig, MoeConfig, TransformerConfig

CHUNKED = "chunked_attention"


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader), head_dim=128, rope=RopeSpelling(theta=5e5))
    bias, count = reader.flag("attention_bias", default=False), config.num_layers
    every = reader.integer("no_rope_layer_interval", default=4)
    turns = tuple((layer + 1) % every != 0 for layer in range(count))
    if reader.take("no_rope_layers", []):  # published ones have an empty list, too
        turns = reader.entries("no_rope_layers", count, table={1: True, 0: False})
    slides = turns
    if reader.has("layer_types"):
        slides = reader.entries("layer_types", count, table={FULL: False, CHUNKED: True})
    config = with_windows(config, slides, reader.optional_integer("attention_chunk_size", 8192))
    config = with_attention(
        with_biases(config, qkv=bias, output=bias),
        qk_norm="turned" if reader.flag("use_qk_norm", default=True) else None,
        qk_norm_after_rope=True,
        chunked=any(config.windows),
        growth=_growth(reader, any(not turn for turn in turns)),
    )
    wide = reader.integer("intermediate_size_mlp", default=16384)
    return replace(
        config,
        mlp=replace(config.mlp, intermediate_size=wide),
        rope_layers=tuple(config.rope if turn else None for turn in turns),
        moe=_experts(reader, count),
    )


def _growth(reader: ConfigReader, unturned: bool) -> GrowthConfig | None:
    on = bool(reader.take("attn_temperature_tuning", True))  # published ones say 4, too
    length, slope = reader.integer("floor_scale", default=8192), reader.number("attn_scale", default=0.1)
    return GrowthConfig(length, slope, first=1, turned=False) if on and unturned else None


def _experts(reader: ConfigReader, count: int) -> MoeConfig:
    experts = read_experts(reader, count, size_key="intermediate_size", normalise=False)
    every = reader.integer("interleave_moe_layer_step", default=1)
    layers = tuple((layer + 1) % every == 0 for layer in range(count))
    if reader.has("moe_layers"):
        listed = reader.indices("moe_layers", count)
        layers = tuple(layer in listed for layer in range(count))
    size = experts.intermediate_size
    return replace(experts, scoring="sigmoid", shared_size=size, shared_gate=False, scale_input=True, layers=layers)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    moe, growth, layers = config.moe, config.attention.growth, range(config.num_layers)
    assert moe is not None, "a LLaMA 4 has experts"
    tuned = {} if growth is None else {"floor_scale": growth.length, "attn_scale": growth.slope}
    return {
        **write_decoder(config),
        "intermediate_size": moe.intermediate_size,
        "intermediate_size_mlp": config.mlp.intermediate_size,
        "num_local_experts": moe.num_experts,
        "num_experts_per_tok": moe.experts_per_token,
        "moe_layers": [layer for layer in layers if moe.layers[layer]],
        "attention_bias": config.attention.qkv_bias,
        "use_qk_norm": config.attention.qk_norm is not None,
        "no_rope_layers": [int(config.rope_of(layer) is not None) for layer in layers],
        "layer_types": [FULL if config.window_of(layer) is None else CHUNKED for layer in layers],
        "attention_chunk_size": window_size(config),
        "attn_temperature_tuning": growth is not None,
        **tuned,
    }


FEED, INTO = LAYER + "feed_forward.", BLOCK + "mlp."
LLAMA4 = Family(
    name="llama4_text",
    architecture="Llama4ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY,
        *PAIR_PROJECTIONS,
        *layer_rules(FEED, INTO, {**GATED, "router": "router"}),
        *layer_rules(FEED + "shared_expert.", INTO + "shared.", GATED),
        KeyRule(
            FEED + "experts.gate_up_proj",
            (INTO + "experts.{e}.gate.weight", INTO + "experts.{e}.up.weight"),
            "swapped_experts",
        ),
        KeyRule(FEED + "experts.down_proj", (INTO + "experts.{e}.down.weight",), "swapped_experts"),
        *PRE_NORMS,
    ),
    harmless_keys={**TRAINING_OF_EXPERTS, "for_llm_compressor": "how its authors quantise"},
)
