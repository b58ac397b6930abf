"""FlexOlmo: OLMo 2's graph with OLMoE's experts.

Source: Shi et al. 2025 (arXiv 2507.07024), and the hub's `flex_olmo` config.
"""

from __future__ import annotations

from dataclasses import replace

from octavo.models.families import olmo2, olmoe
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, BLOCK, BODY, EXPERTS, LAYER
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = olmoe.read_config(reader)
    return replace(config, placement="output", norm=replace(config.norm, round_last=True))


FLEX_OLMO = Family(
    name="flex_olmo",
    architecture="FlexOlmoForCausalLM",
    read_config=read_config,
    write_config=olmoe.write_config,
    rules=(*BODY, *ATTENTION, *EXPERTS, *layer_rules(LAYER, BLOCK, olmo2.NORMS)),
    harmless_keys=TRAINING_OF_EXPERTS,
)
