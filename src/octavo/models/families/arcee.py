"""Arcee AFM: LLaMA's graph with a plain MLP and a squared ReLU.

Source: the hub's `arcee` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.families import llama
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader), gated=False, activation="relu2")
    return with_biases(config, qkv=bias, output=bias, mlp=reader.flag("mlp_bias", default=False))


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `arcee` in hub spelling."""
    return {**gguf_decoder.decoder_config(reader, present), "hidden_act": "relu2"}


ARCEE = Family(
    name="arcee",
    architecture="ArceeForCausalLM",
    read_config=read_config,
    write_config=llama.write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("arcee", gguf_hub_config, gguf_names.PAIR_RULES),
)
