"""Gemma 1: LLaMA's graph with weights of norms stored less 1, embeddings scaled by sqrt(hidden_size), a tanh GELU gate.

Source: arXiv 2403.08295, and the hub's `gemma` config, whose older files say gelu and mean its tanh form.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import gemma2
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm, bias = rms(reader, offset=True, round_last=True), reader.flag("attention_bias", default=False)
    config = read_decoder(reader, norm, tie=True, head_dim=256, activation="gelu_pytorch_tanh")
    config = with_biases(config, qkv=bias, output=bias)
    if config.mlp.activation == "gelu":
        config = replace(config, mlp=replace(config.mlp, activation="gelu_tanh"))
    return replace(config, embedding_scale=config.hidden_size**0.5)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "attention_bias": config.attention.qkv_bias}


GEMMA = Family(
    name="gemma",
    architecture="GemmaForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("gemma", gguf_decoder.decoder_config, gemma2.GGUF_RULES),
    harmless_keys={"hidden_activation": "peers do not read it"},
    neutral_values=gemma2.NEUTRAL,
)
