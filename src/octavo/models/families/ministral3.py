"""Ministral 3: Mistral's graph under YaRN, whose queries grow past the length that it was trained on at first.

Source: the hub's `ministral3` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.families import mistral
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.tables import gguf_names
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


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `mistral3` in hub spelling; YaRN's logarithm is said whole, not its tenth."""
    slope = reader.number("attention.temperature_scale") if reader.has("attention.temperature_scale") else 0.0
    config = gguf_decoder.decoder_config(reader, present)
    scaling = config["rope_scaling"]
    if scaling is not None and "mscale" in scaling:
        scaling |= dict.fromkeys(("mscale", "mscale_all_dim"), round(scaling["mscale"] / 10, 6))
    return {**config, "rope_scaling": {**scaling, GROWTH: rounded(slope)} if slope else scaling}


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The inverse, beside what all architectures have."""
    growth = config.attention.growth
    return {} if growth is None else {"attention.temperature_scale": growth.slope}


MINISTRAL3 = Family(
    name="ministral3",
    architecture="Ministral3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("mistral3", gguf_hub_config, gguf_names.PAIR_RULES, metadata=gguf_metadata),
    neutral_values=mistral.MISTRAL.neutral_values,
)
