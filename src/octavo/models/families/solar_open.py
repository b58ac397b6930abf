"""Solar Open: GLM-4.5's experts in every block, in LLaMA's graph, the whole of each head turning.

Source: the hub's `solar_open` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3, glm4_moe
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.rope import RopeSpelling
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; without a block that has none, the plain MLP's width need not be said."""
    reader.raw.setdefault("intermediate_size", reader.raw.get("moe_intermediate_size"))
    reader.skip("first_k_dense_replace", "use_qk_norm")
    config = read_decoder(reader, rms(reader), head_dim=128, rope=RopeSpelling(theta=1e6))
    config = with_attention(config, qkv_bias=reader.flag("attention_bias", default=False))
    moe = deepseek_v3.read_grouped(reader, config.num_layers)
    return replace(config, moe=replace(moe, layers=(True,) * config.num_layers))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    bias = {"attention_bias": config.attention.qkv_bias}
    return {**write_decoder(config), **deepseek_v3.write_grouped(config), **bias}


SOLAR_OPEN = Family(
    name="solar_open",
    architecture="SolarOpenForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=glm4_moe.GLM4_MOE.rules,
    harmless_keys=deepseek_v3.HARMLESS,
)
