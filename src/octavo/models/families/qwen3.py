"""Qwen3, the dense models: Qwen2's graph without biases, with each head of q and k normalised.

Source: arXiv 2505.09388, and the hub's `qwen3` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.families.qwen2 import gguf_hub_config, with_upper_windows, write_windows
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader), head_dim=128)
    config = with_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="head")
    return with_upper_windows(reader, config)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), **write_windows(config), "attention_bias": config.attention.qkv_bias}


QWEN3 = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("qwen3", gguf_hub_config, gguf_names.RULES),
)
