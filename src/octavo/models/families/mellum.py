"""Mellum 2: Qwen3's graph with experts, windows in the blocks that the config names, and a rotary embedding for each
of the two kinds of block.

Source: the hub's `mellum` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import olmo3, qwen3_moe
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, read_experts, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.spellings import FULL, SLIDING
from octavo.nn.config import TransformerConfig

GLOBAL, LOCAL = RopeSpelling(theta=5e5, blocks=FULL), RopeSpelling(theta=1e4, blocks=SLIDING)


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader), head_dim=128, rope=GLOBAL)
    config = with_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="head")
    normalise = reader.flag("norm_topk_prob", default=True)
    moe = read_experts(reader, config.num_layers, size_key="moe_intermediate_size", normalise=normalise)
    if reader.has("mlp_layer_types"):
        kinds = reader.entries("mlp_layer_types", config.num_layers, table={"dense": False, "sparse": True})
        moe = replace(moe, layers=kinds)
    return olmo3.with_two_ropes(reader, replace(config, moe=moe), LOCAL, lambda layer: False, 1024)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.moe is not None, "a Mellum has experts"
    counts = {"num_local_experts": config.moe.num_experts, "num_experts_per_tok": config.moe.experts_per_token}
    return {
        **olmo3.write_two_ropes(config, write_decoder(config)),
        **counts,
        "attention_bias": config.attention.qkv_bias,
        "moe_intermediate_size": config.moe.intermediate_size,
        "norm_topk_prob": config.moe.normalise,
        "mlp_layer_types": ["sparse" if sparse else "dense" for sparse in config.moe.layers],
    }


MELLUM = Family(
    name="mellum",
    architecture="MellumForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=qwen3_moe.QWEN3_MOE.rules,
    harmless_keys={
        **TRAINING_OF_EXPERTS,
        **dict.fromkeys(
            ("mtp_layer_types", "mtp_mlp_layer_types", "num_mtp_layers", "num_nextn_predict_layers"),
            "the block that guesses is left out",
        ),
    },
    harmless_tensors=(r"mtp\..*",),
)
