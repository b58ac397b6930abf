"""MiniCPM 3: DeepSeek's latent attention with halves that turn in order, and MiniCPM's scales.

Source: the hub's `minicpm3` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3, minicpm
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.tables.hub_names import BODY, MLP, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    reader.raw.setdefault("tie_word_embeddings", True)
    return minicpm.scaled(reader, deepseek_v3.read_latent(reader), embedding=12.0, depth=1.4, base=256)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**deepseek_v3.write_latent(config), **minicpm.write_scales(config)}


MINICPM3 = Family(
    name="minicpm3",
    architecture="MiniCPM3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *(replace(rule, layout="plain") for rule in deepseek_v3.LATENT), *MLP, *PRE_NORMS),
    neutral_values={"mlp_bias": (False,)},
)
