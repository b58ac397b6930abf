"""OLMoE: LLaMA's graph with experts for its MLP, and q and k normalised whole, before they are split.

Source: Muennighoff et al. 2024 (arXiv 2409.02060), and the hub's `olmoe` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, read_experts, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, EXPERTS, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config, bias = read_decoder(reader, rms(reader)), reader.flag("attention_bias", default=False)
    normalise = reader.flag("norm_topk_prob", default=False)
    experts = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=normalise)
    config = with_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="full")
    return replace(config, moe=experts)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.moe is not None, "an OLMoE has experts"
    return {
        **write_decoder(config),
        "attention_bias": config.attention.qkv_bias,
        "num_experts": config.moe.num_experts,
        "num_experts_per_tok": config.moe.experts_per_token,
        "norm_topk_prob": config.moe.normalise,
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `olmoe` in hub spelling."""
    experts = gguf_decoder.expert_config(reader, "num_experts")
    return {**gguf_decoder.decoder_config(reader, present, experts=True), **experts}


OLMOE = Family(
    name="olmoe",
    architecture="OlmoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *ATTENTION, *EXPERTS, *PRE_NORMS),
    gguf=GgufLayout("olmoe", gguf_hub_config, (*gguf_names.RULES, *gguf_names.EXPERTS)),
    harmless_keys=TRAINING_OF_EXPERTS,
    neutral_values={"clip_qkv": ()},
)
