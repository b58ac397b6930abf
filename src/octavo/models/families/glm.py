"""GLM-4 of 2024 and GLM-Edge: the graph of GLM-4-0414 without the norms on what each sublayer gives.

Source: arXiv 2406.12793, and the hub's `glm` config.
"""

from __future__ import annotations

from dataclasses import replace

from octavo.models.families import glm4
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.tables.hub_names import BODY, FUSED_MLP, PAIR_ATTENTION, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return replace(glm4.read_config(reader), placement="pre")


GLM = Family(
    name="glm",
    architecture="GlmForCausalLM",
    read_config=read_config,
    write_config=glm4.write_config,
    rules=(*BODY, *PAIR_ATTENTION, *FUSED_MLP, *PRE_NORMS),
)
