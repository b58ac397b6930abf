"""Ministral 3: Mistral's graph under YaRN, whose queries grow past the length that it was trained on at first.

Source: the hub's `ministral3` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.families import mistral
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.family import Family
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import GrowthConfig, TransformerConfig

GROWTH, ORIGINAL = "llama_4_scaling_beta", "original_max_position_embeddings"


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    reader.raw.setdefault("sliding_window", None)
    config = mistral.read_config(reader)
    section = reader.section("rope_parameters", "rope_scaling")
    if section is None or not section.take(GROWTH, 0):
        return config
    section.skip("max_position_embeddings")
    length, slope = section.integer(ORIGINAL), section.number(GROWTH)
    return with_attention(config, growth=GrowthConfig(length, slope, first=0, turned=True))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = mistral.write_config(config)
    growth, scaling = config.attention.growth, written["rope_scaling"] or {"rope_type": "default"}
    length, slope = (config.context_length, 0.0) if growth is None else (growth.length, growth.slope)
    return {**written, "rope_scaling": {**scaling, ORIGINAL: length, GROWTH: slope}}


MINISTRAL3 = Family(
    name="ministral3",
    architecture="Ministral3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    neutral_values=mistral.MISTRAL.neutral_values,
)
