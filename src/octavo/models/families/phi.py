"""Phi-1.5 and Phi-2: attention and plain MLP read one LayerNorm of x side by side; biases everywhere, the head too.

Source: arXiv 2309.05463, and the hub's `phi` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_attention, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import ATTENTION_NORM, INTO, LAYER, SELF
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm = NormConfig("layer", reader.number("layer_norm_eps"))
    config = read_decoder(reader, norm, gated=False, activation="gelu_new", rope=RopeSpelling(partial=0.5))
    config = with_biases(config, qkv=True, output=True, mlp=True)
    config = with_attention(config, qk_norm="head" if reader.flag("qk_layernorm", default=False) else None)
    return replace(config, placement="parallel", head_bias=True)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "qk_layernorm": config.attention.qk_norm is not None}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `phi2` in hub spelling."""
    return {**gguf_decoder.decoder_config(reader, present), "hidden_act": "gelu_new"}


NAMES = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "dense": "o", "q_layernorm": "q_norm", "k_layernorm": "k_norm"
}  # fmt: skip
RULES = (
    KeyRule("model.embed_tokens.weight", ("embed_tokens.weight",)),
    *layer_rules(SELF, INTO, NAMES),
    *linear_rules(LAYER + "mlp.fc1", "blocks.{i}.mlp.up"),
    *linear_rules(LAYER + "mlp.fc2", "blocks.{i}.mlp.down"),
    *ATTENTION_NORM,
    *linear_rules("model.final_layernorm", "norm"),
    *linear_rules("lm_head", "lm_head"),
)
PHI = Family(
    name="phi",
    architecture="PhiForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    gguf=GgufLayout("phi2", gguf_hub_config, gguf_names.RULES),
    harmless_keys=dict.fromkeys(("embd_pdrop", "resid_pdrop"), "dropout acts in training only"),
    neutral_values={"tie_word_embeddings": (False,)},
)
