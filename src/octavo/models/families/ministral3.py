"""Ministral 3: Mistral's graph under YaRN, for sequences up to the length that it was trained on at first.

Past that length queries grow with their position, which is not done here; up to it their factor is 1, so that the
context ends there. Source: the hub's `ministral3` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import mistral
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig

GROWTH, ORIGINAL = "llama_4_scaling_beta", "original_max_position_embeddings"


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    reader.raw.setdefault("sliding_window", None)
    config = mistral.read_config(reader)
    section = reader.section("rope_parameters", "rope_scaling")
    if section is None or not section.has(GROWTH):
        return config
    section.skip(GROWTH, "max_position_embeddings")
    return replace(config, context_length=min(config.context_length, section.integer(ORIGINAL)))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = mistral.write_config(config)
    scaling = written["rope_scaling"] or {"rope_type": "default", ORIGINAL: config.context_length}
    return {**written, "rope_scaling": {**scaling, GROWTH: 0.0}}


MINISTRAL3 = Family(
    name="ministral3",
    architecture="Ministral3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    neutral_values=mistral.MISTRAL.neutral_values,
)
