"""Seed-OSS: LLaMA's graph with biases on q, k and v, and a switch of their own for the output's.

Source: the hub's `seed_oss` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.families import llama
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader))
    qkv, output = reader.flag("attention_bias", default=True), reader.flag("attention_out_bias", default=False)
    return with_biases(config, qkv=qkv, output=output, mlp=reader.flag("mlp_bias", default=False))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**llama.write_config(config), "attention_out_bias": config.attention.output_bias}


SEED_OSS = Family(
    name="seed_oss",
    architecture="SeedOssForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("seed_oss", llama.gguf_hub_config, gguf_names.LATE_RULES),
    harmless_keys={"residual_dropout": "dropout acts in training only"},
)
