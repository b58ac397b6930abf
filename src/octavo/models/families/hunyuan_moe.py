"""Hunyuan with experts (A13B): the dense models' graph, each MLP as wide experts beside one that all tokens share.

Source: the hub's `hunyuan_v1_moe` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import hunyuan
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_experts
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import EXPERTS, GATED, LAYER
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; lists say one number for each block, which must be the same in all."""
    for key, name in (("moe_topk", "num_experts_per_tok"), ("num_experts", "num_experts")):
        value = reader.take(key, None)
        same = isinstance(value, list) and value and value.count(value[0]) == len(value)
        reader.raw[name] = value[0] if same else value
    config = hunyuan.read_config(reader)
    moe = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=True)
    return replace(config, moe=replace(moe, shared_size=moe.intermediate_size, shared_gate=False))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.moe is not None, "it has experts"
    counts = {"num_experts": config.moe.num_experts, "moe_topk": config.moe.experts_per_token}
    return {**hunyuan.write_config(config), **counts}


NEUTRAL = {key: value for key, value in hunyuan.HUNYUAN.neutral_values.items() if key != "num_experts"}
HUNYUAN_MOE = Family(
    name="hunyuan_v1_moe",
    architecture="HunYuanMoEV1ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *hunyuan.HUNYUAN.rules,
        *EXPERTS[1:],
        KeyRule(LAYER + "mlp.gate.wg.weight", ("blocks.{i}.mlp.router.weight",)),
        *layer_rules(LAYER + "mlp.shared_mlp.", "blocks.{i}.mlp.shared.", GATED),
    ),
    harmless_keys={**hunyuan.HUNYUAN.harmless_keys, **TRAINING_OF_EXPERTS},
    neutral_values=NEUTRAL,
)
