"""GLM-4.7 Flash: DeepSeek-V3's graph, which blocks have experts said block by block.

Source: the hub's `glm4_moe_lite` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3
from octavo.models.mapping.config_reader import ConfigReader
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = deepseek_v3.read_latent(reader)
    return replace(config, moe=deepseek_v3.read_grouped(reader, config.num_layers, first=1))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**deepseek_v3.write_config(config), **deepseek_v3.write_layers(config)}


GLM4_MOE_LITE = replace(
    deepseek_v3.DEEPSEEK_V3,
    name="glm4_moe_lite",
    architecture="Glm4MoeLiteForCausalLM",
    read_config=read_config,
    write_config=write_config,
    gguf=None,
)
SARVAM_MLA = replace(deepseek_v3.DEEPSEEK_V3, name="sarvam_mla", gguf=None)
"""Sarvam 105 B, which is a DeepSeek-V3 by another name."""
