"""SmolLM3: LLaMA's graph, but every fourth block has no rotary embedding; in the config, 1 means that it has.

Source: the hub's `smollm3` config; Yang et al. 2025 (arXiv 2501.18795) for blocks without positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_layer_types,
    rms,
    window_keys,
    with_biases,
    with_windows,
    write_decoder,
)
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader), tie=True, rope=RopeSpelling(theta=2e6))
    config = with_biases(config, qkv=bias, output=bias, mlp=reader.flag("mlp_bias", default=False))
    every = reader.integer("no_rope_layer_interval", default=4)
    turns = tuple((layer + 1) % every != 0 for layer in range(config.num_layers))
    if reader.has("no_rope_layers"):
        turns = reader.entries("no_rope_layers", config.num_layers, table={1: True, 0: False})
    slides = read_layer_types(reader, config.num_layers, lambda layer: not turns[layer])
    size = reader.optional_integer("sliding_window", None)
    config = with_windows(config, slides, size if reader.flag("use_sliding_window", default=False) else None)
    return replace(config, rope_layers=tuple(config.rope if turn else None for turn in turns))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        **write_decoder(config),
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.mlp.bias,
        "no_rope_layers": [int(config.rope_of(layer) is not None) for layer in range(config.num_layers)],
        "use_sliding_window": any(config.windows),
        **window_keys(config),
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling; which blocks turn is not in it, but as published."""
    return gguf_decoder.decoder_config(reader, present, theta=2e6)


SMOLLM3 = Family(
    name="smollm3",
    architecture="SmolLM3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("smollm3", gguf_hub_config, gguf_names.PAIR_RULES),
    harmless_keys={"max_window_layers": "peers do not read it"},
)
