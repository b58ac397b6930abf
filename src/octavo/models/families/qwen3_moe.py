"""Qwen3 with experts: Qwen3's graph, most MLPs replaced by experts; none is shared.

Source: arXiv 2505.09388, and the hub's `qwen3_moe` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.families.qwen2_moe import HARMLESS, NO_WINDOW, gguf_experts, with_experts, write_experts
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import EXPERTS, LAYER, LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = with_attention(read_decoder(reader, rms(reader)), qkv_bias=bias, output_bias=bias, qk_norm="head")
    return with_experts(reader, config, None)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), **write_experts(config), "attention_bias": config.attention.qkv_bias}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `qwen3moe` in hub spelling."""
    return {**gguf_experts(reader, present), "norm_topk_prob": True}


EXPERT = "blocks.{i}.mlp.experts.{e}."
STACKED = (
    KeyRule(LAYER + "mlp.experts.gate_up_proj", (EXPERT + "gate.weight", EXPERT + "up.weight"), "experts"),
    KeyRule(LAYER + "mlp.experts.down_proj", (EXPERT + "down.weight",), "experts"),
)
"""The experts as Qwen3-VL's files have them."""
QWEN3_MOE = Family(
    name="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*LLAMA_RULES, *EXPERTS, *STACKED),
    gguf=GgufLayout("qwen3moe", gguf_hub_config, (*gguf_names.RULES, *gguf_names.EXPERTS)),
    harmless_keys=HARMLESS,
    neutral_values=NO_WINDOW,
)
