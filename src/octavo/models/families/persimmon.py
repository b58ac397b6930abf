"""Persimmon: LayerNorms, a plain MLP of squared ReLUs, biases everywhere, heads normalised, half of each turning.

Fuyu's language model is of this shape. Source: Adept 2023, and the hub's `persimmon` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_attention, with_biases, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.models.mapping.tables.hub_names import BLOCK, INTO, LAYER, PRE_NORMS, SELF
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm = NormConfig("layer", reader.number("layer_norm_eps", default=1e-5))
    rope = RopeSpelling(theta=25000.0, partial=0.5)
    config = with_biases(
        read_decoder(reader, norm, gated=False, activation="relu2", rope=rope), qkv=True, output=True, mlp=True
    )
    return with_attention(config, qk_norm="head" if reader.flag("qk_layernorm", default=True) else None)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = {"partial_rotary_factor": 1.0, **write_decoder(config)}
    return {**written, "qk_layernorm": config.attention.qk_norm is not None}


PERSIMMON = Family(
    name="persimmon",
    architecture="PersimmonForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        KeyRule("model.embed_tokens.weight", ("embed_tokens.weight",)),
        *linear_rules(SELF + "query_key_value", *QKV, layout="groups"),
        *layer_rules(SELF, INTO, {"dense": "o", "q_layernorm": "q_norm", "k_layernorm": "k_norm"}),
        *layer_rules(LAYER, BLOCK, {"mlp.dense_h_to_4h": "mlp.up", "mlp.dense_4h_to_h": "mlp.down"}),
        *PRE_NORMS,
        *linear_rules("model.final_layernorm", "norm"),
        KeyRule("lm_head.weight", ("lm_head.weight",)),
    ),
    harmless_keys={"hidden_dropout": "dropout acts in training only"},
)
