"""AFMoE (Arcee's Trinity): norms before and after each sublayer, a gate on what heads give, rotary embedding in the
blocks with a window alone, and DeepSeek-V3's experts without groups.

Source: the hub's `afmoe` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_layer_types,
    rms,
    window_keys,
    with_attention,
    with_biases,
    with_windows,
    write_decoder,
)
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, BLOCK, BODY, EXPERTS, LAYER, MLP, SHARED_EXPERTS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config, bias = read_decoder(reader, rms(reader)), reader.flag("attention_bias", default=False)
    every = reader.integer("global_attn_every_n_layers", default=4)
    slides = read_layer_types(reader, config.num_layers, lambda layer: (layer + 1) % every != 0)
    scaled = reader.flag("mup_enabled", default=False)
    dense = reader.integer("num_dense_layers", default=1, low=0)
    experts = deepseek_v3.read_grouped(reader, config.num_layers, first=dense)
    config = with_windows(config, slides, reader.optional_integer("sliding_window", 1024))
    return replace(
        with_attention(with_biases(config, qkv=bias, output=bias), qk_norm="head", output_gate=True),
        placement="sandwich",
        embedding_scale=config.hidden_size**0.5 if scaled else 1.0,
        rope_layers=tuple(config.rope if slide else None for slide in slides),
        moe=replace(experts, scale=reader.number("route_scale", default=1.0)),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    names = {
        "n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts",
        "routed_scaling_factor": "route_scale", "first_k_dense_replace": "num_dense_layers",
    }  # fmt: skip
    slides = [config.rope_of(layer) is not None for layer in range(config.num_layers)]
    return {
        **write_decoder(config),
        **deepseek_v3.write_grouped(config, **names),
        **window_keys(config),
        "layer_types": ["sliding_attention" if slide else "full_attention" for slide in slides],
        "attention_bias": config.attention.qkv_bias,
        "mup_enabled": config.embedding_scale != 1,
    }


AFMOE = Family(
    name="afmoe",
    architecture="AfmoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY,
        *ATTENTION,
        *layer_rules(LAYER, BLOCK, {
            "self_attn.gate_proj": "attention.output_gate",
            "input_layernorm": "attention_norm", "post_attention_layernorm": "attention_output_norm",
            "pre_mlp_layernorm": "mlp_norm", "post_mlp_layernorm": "mlp_output_norm",
        }),
        *MLP,
        *EXPERTS[1:],
        *SHARED_EXPERTS,
        KeyRule(LAYER + "mlp.router.gate.weight", (BLOCK + "mlp.router.weight",)),
        KeyRule(LAYER + "mlp.expert_bias", (BLOCK + "mlp.correction_bias",)),
    ),
    harmless_keys={
        **TRAINING_OF_EXPERTS,
        "load_balance_coeff": "training only",
        "use_grouped_mm": "how peers multiply",
    },
    neutral_values={
        "score_func": ("sigmoid",), "route_norm": (True,), "num_expert_groups": (1,), "num_limited_groups": (1,),
    },
)  # fmt: skip
