"""Granite 4 without Mamba (micro, 350M, 1B): Granite's graph, whose plain MLP, or beside experts the shared one, has
gate and up in one matrix. Models with Mamba's blocks are refused.

Source: the hub's `granitemoehybrid` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.errors import UnsupportedError
from octavo.models.families import granite, granitemoe
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule
from octavo.nn.config import TransformerConfig

KINDS = {"attention": True, "full_attention": True, "mamba": False, "linear_attention": False}
PLAIN = "blocks.{i}.mlp."


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; without experts, the shared MLP is the only one."""
    layers = reader.integer("num_hidden_layers", high=4096)
    key = "layer_types" if reader.has("layer_types") else "layers_block_type"
    if not reader.has(key) or not all(reader.entries(key, layers, table=KINDS)):
        raise UnsupportedError(f"{reader.source} has blocks of Mamba, a state-space block that is not here", param=key)
    shared = reader.integer("shared_intermediate_size", default=1024)
    if reader.integer("num_local_experts", default=0, low=0):
        config = granitemoe.read_config(reader)
    else:
        config = granite.read_config(reader)
        config = replace(config, mlp=replace(config.mlp, intermediate_size=shared))
        reader.skip("num_local_experts", "num_experts_per_tok", "intermediate_size")
    turns = reader.choice("position_embedding_type", table={"rope": True, "nope": False}, default="nope")
    return config if turns else replace(config, rope_layers=(None,) * layers)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    kinds: dict[str, Any] = {"layer_types": ["full_attention"] * config.num_layers}
    kinds["position_embedding_type"] = "nope" if config.rope_layers else "rope"
    if config.moe is not None:
        return {**granitemoe.write_config(config), **kinds}
    dense = {"num_local_experts": 0, "shared_intermediate_size": config.mlp.intermediate_size}
    return {**granite.write_config(config), **kinds, **dense}


MAMBA = ("chunk_size", "conv_bias", "d_conv", "d_head", "d_state", "expand", "n_groups", "n_heads", "proj_bias")
GRANITE_MOE_HYBRID = replace(
    granitemoe.GRANITE_MOE_SHARED,
    name="granitemoehybrid",
    architecture="GraniteMoeHybridForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *granitemoe.RULES,
        *granitemoe.STACKED,
        KeyRule(granitemoe.SHARED_MLP + "input_linear.weight", (PLAIN + "gate.weight", PLAIN + "up.weight")),
        KeyRule(granitemoe.SHARED_MLP + "output_linear.weight", (PLAIN + "down.weight",)),
    ),
    gguf=None,
    harmless_keys={
        **granitemoe.GRANITE_MOE.harmless_keys,
        **dict.fromkeys((f"mamba_{key}" for key in MAMBA), "of blocks that this model has none of"),
        **dict.fromkeys(
            ("time_step_limit", "attn_layer_indices", "init_method", "normalization_function"), "as before"
        ),
    },
    neutral_values={},
)
