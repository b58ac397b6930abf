"""EXAONE 4: norms on what each sublayer gives, heads of q and k normalised; in the 32 B model three blocks with a
window and rotary embedding, then one with neither.

Source: arXiv 2507.11407, and the hub's `exaone4` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import olmo2
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_layer_types,
    rms,
    window_keys,
    with_attention,
    write_decoder,
)
from octavo.models.mapping.family import Family, GgufLayout
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = replace(with_attention(read_decoder(reader, rms(reader)), qk_norm="head"), placement="output")
    pattern = reader.take("sliding_window_pattern", 4)
    every = len(pattern) if isinstance(pattern, str) else pattern or 1  # "LLLG" is 4
    slides = read_layer_types(reader, config.num_layers, lambda layer: (layer + 1) % every != 0)
    size = reader.optional_integer("sliding_window", 4096)
    if size is None:
        return config
    windows = tuple(size if slide else None for slide in slides)
    return replace(config, windows=windows, rope_layers=tuple(config.rope if slide else None for slide in slides))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), **window_keys(config)}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `exaone4` in hub spelling; which blocks slide is as published."""
    size = reader.optional_integer("attention.sliding_window", None)
    return {**gguf_decoder.decoder_config(reader, present), "sliding_window": size}


EXAONE4 = Family(
    name="exaone4",
    architecture="Exaone4ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=olmo2.OLMO2.rules,
    gguf=GgufLayout("exaone4", gguf_hub_config, olmo2.GGUF_RULES),
)
