"""InternLM 3: LLaMA's graph, whose config calls the biases otherwise.

Source: the hub's `internlm3` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("qkv_bias", "attention_bias", default=False)
    mlp = reader.flag("bias", "mlp_bias", default=False)
    return with_biases(read_decoder(reader, rms(reader)), qkv=bias, output=bias, mlp=mlp)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "qkv_bias": config.attention.qkv_bias, "bias": config.mlp.bias}


INTERNLM3 = Family(
    name="internlm3",
    architecture="InternLM3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
)
