"""Apertus: LLaMA's graph with heads of q and k normalised, and a plain MLP whose activation is learned (xIELU).

Source: arXiv 2509.14233, and the hub's `apertus` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, with_biases, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.hub_names import ATTENTION, BLOCK, BODY, LAYER, MLP
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader), gated=False, activation="xielu", rope=RopeSpelling(theta=12e6))
    return with_attention(with_biases(config, qkv=bias, output=bias), qk_norm="head")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "attention_bias": config.attention.qkv_bias}


APERTUS = Family(
    name="apertus",
    architecture="ApertusForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY,
        *ATTENTION,
        *MLP,
        *(KeyRule(f"{LAYER}mlp.act_fn.{name}", (f"{BLOCK}mlp.{name}",)) for name in ("alpha_p", "alpha_n")),
        *layer_rules(LAYER, BLOCK, {"attention_layernorm": "attention_norm", "feedforward_layernorm": "mlp_norm"}),
    ),
    harmless_keys={
        **dict.fromkeys(("post_norm", "qk_norm", "mlp_bias"), "the only ones there are"),
    },
    constants={LAYER + "mlp.act_fn.beta": 0.5, LAYER + "mlp.act_fn.eps": -1e-6},
)
