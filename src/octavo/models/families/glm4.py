"""GLM-4-0414: norms before and after each sublayer, biases on q, k and v, half of each head turns, fused gate and up.

Hub files have the rotary rows of q and k in pair order.
Source: arXiv 2406.12793, and the hub's `glm4` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import BLOCK, BODY, FUSED_MLP, LAYER, PAIR_ATTENTION
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader), head_dim=128, rope=RopeSpelling(partial=0.5))
    config = with_attention(config, qkv_bias=reader.flag("attention_bias", default=True))
    return replace(config, placement="sandwich")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {"partial_rotary_factor": 1.0, **write_decoder(config), "attention_bias": config.attention.qkv_bias}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling."""
    return {**gguf_decoder.decoder_config(reader, present), "attention_bias": present("blk.0.attn_q.bias")}


NORMS = {
    "input_layernorm": "attention_norm",
    "post_self_attn_layernorm": "attention_output_norm",
    "post_attention_layernorm": "mlp_norm",
    "post_mlp_layernorm": "mlp_output_norm",
}
GGUF_RULES = (
    *gguf_names.BODY, *gguf_names.PAIR_ATTENTION, *gguf_names.FUSED_MLP, *gguf_names.PRE_NORMS,
    *gguf_names.OUTPUT_NORMS,
)  # fmt: skip

GLM4 = Family(
    name="glm4",
    architecture="Glm4ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *PAIR_ATTENTION, *FUSED_MLP, *layer_rules(LAYER, BLOCK, NORMS)),
    gguf=GgufLayout("glm4", gguf_hub_config, GGUF_RULES),
)
