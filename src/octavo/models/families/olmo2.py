"""OLMo 2: norms on what attention and MLP give, none before; q and k are normalised whole, before they are split.

Source: arXiv 2501.00656, and the hub's `olmo2` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.rope import PLAIN_ROPE, RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import ATTENTION, BLOCK, BODY, LAYER, MLP
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader, rope: RopeSpelling = PLAIN_ROPE) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader, round_last=True), rope=rope)
    config = with_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="full")
    return replace(config, placement="output")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "attention_bias": config.attention.qkv_bias}


NORMS = {"post_attention_layernorm": "attention_output_norm", "post_feedforward_layernorm": "mlp_output_norm"}
GGUF_RULES = (
    *gguf_names.BODY, *gguf_names.ATTENTION, *gguf_names.MLP, *gguf_names.OUTPUT_NORMS,
)  # fmt: skip

OLMO2 = Family(
    name="olmo2",
    architecture="Olmo2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *ATTENTION, *MLP, *layer_rules(LAYER, BLOCK, NORMS)),
    gguf=GgufLayout("olmo2", gguf_decoder.decoder_config, GGUF_RULES),
)
