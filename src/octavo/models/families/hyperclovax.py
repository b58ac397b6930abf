"""HyperCLOVA X: Granite's scales, the logits' one a factor, and norms after each sublayer, too.

Source: the hub's `hyperclovax` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import granite
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.tables.hub_names import ATTENTION, BLOCK, BODY, LAYER, MLP
from octavo.nn.config import TransformerConfig

NORMS = layer_rules(LAYER, BLOCK, {
    "input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm",
    "post_norm1": "attention_output_norm", "post_norm2": "mlp_output_norm",
})  # fmt: skip


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = granite.read_config(reader)
    scale = config.attention.scale if reader.has("attention_multiplier") else None
    return replace(
        config,
        attention=replace(config.attention, scale=scale),
        placement="sandwich" if reader.flag("use_post_norm", default=True) else "pre",
        logit_scale=reader.number("logits_scaling", default=1.0),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    scales = {"logits_scaling": config.logit_scale, "use_post_norm": config.placement == "sandwich"}
    return {**granite.write_config(config), **scales}


HYPERCLOVAX = Family(
    name="hyperclovax",
    architecture="HyperCLOVAXForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *ATTENTION, *MLP, *NORMS),
)
