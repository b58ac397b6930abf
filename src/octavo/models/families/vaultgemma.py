"""VaultGemma: Gemma 2's graph without the norms after each sublayer.

Source: arXiv 2510.15001, and the hub's `vaultgemma` config.
"""

from __future__ import annotations

from dataclasses import replace

from octavo.models.families import gemma2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.tables.hub_names import ATTENTION, ATTENTION_NORM, BLOCK, BODY, LAYER, MLP
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return replace(gemma2.read_config(reader), placement="pre")


VAULTGEMMA = Family(
    name="vaultgemma",
    architecture="VaultGemmaForCausalLM",
    read_config=read_config,
    write_config=gemma2.write_config,
    rules=(
        *BODY,
        *ATTENTION,
        *MLP,
        *ATTENTION_NORM,
        *layer_rules(LAYER, BLOCK, {"pre_feedforward_layernorm": "mlp_norm"}),
    ),
    harmless_keys=gemma2.HARMLESS,
)
