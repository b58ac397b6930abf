"""Ministral 8B: Mistral's graph with a window in the blocks that the config names.

Source: the hub's `ministral` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, read_layer_types, rms, window_keys, with_windows, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config, size = read_decoder(reader, rms(reader)), reader.optional_integer("sliding_window", 4096)
    return with_windows(config, read_layer_types(reader, config.num_layers, lambda layer: size is not None), size)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), **window_keys(config)}


MINISTRAL = Family(
    name="ministral",
    architecture="MinistralForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    neutral_values={"attention_bias": (False,), "mlp_bias": (False,)},
)
