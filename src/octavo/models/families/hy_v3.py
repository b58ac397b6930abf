"""Hunyuan 3: Qwen3's graph with DeepSeek-V3's experts, without groups.

Source: the hub's `hy_v3` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, with_biases, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import EXPERTS, GATED, LAYER, LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader), rope=RopeSpelling(theta=11158840.0))
    config = with_attention(with_biases(config, qkv=bias, output=bias), qk_norm="head")
    return replace(config, moe=deepseek_v3.read_grouped(reader, config.num_layers, first=1))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    names = {
        "n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts",
        "routed_scaling_factor": "router_scaling_factor",
    }  # fmt: skip
    grouped = {**deepseek_v3.write_grouped(config, **names), **deepseek_v3.write_layers(config)}
    return {**write_decoder(config), **grouped, "attention_bias": config.attention.qkv_bias}


HY_V3 = Family(
    name="hy_v3",
    architecture="HYV3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *LLAMA_RULES,
        *EXPERTS[1:],
        KeyRule(LAYER + "mlp.router.gate.weight", ("blocks.{i}.mlp.router.weight",)),
        KeyRule(LAYER + "mlp.expert_bias", ("blocks.{i}.mlp.correction_bias",)),
        *layer_rules(LAYER + "mlp.shared_mlp.", "blocks.{i}.mlp.shared.", GATED),
    ),
    harmless_keys={**TRAINING_OF_EXPERTS, "enable_moe_fp32_combine": "the same sums in another precision"},
    neutral_values={"mlp_bias": (False,)},
)
