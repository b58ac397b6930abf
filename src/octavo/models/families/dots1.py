"""dots.llm1: Qwen3's attention, with a window in the blocks that the config names, and DeepSeek-V3's experts.

Source: arXiv 2506.05767, and the hub's `dots1` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families.deepseek_v3 import HARMLESS, read_grouped, write_grouped
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_layer_types,
    rms,
    window_keys,
    with_attention,
    with_windows,
    write_decoder,
)
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import CORRECTION, EXPERTS, LLAMA_RULES, SHARED_EXPERTS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = with_attention(read_decoder(reader, rms(reader)), qkv_bias=bias, output_bias=bias, qk_norm="head")
    size, first = (
        reader.optional_integer("sliding_window", 4096),
        reader.integer("max_window_layers", default=62, low=0),
    )
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer >= first)
    config = with_windows(config, slides, size)
    return replace(config, moe=read_grouped(reader, config.num_layers, normalise=False))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        **write_decoder(config),
        **write_grouped(config),
        "attention_bias": config.attention.qkv_bias,
        **window_keys(config),
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling; there a block never slides."""
    config = gguf_decoder.decoder_config(reader, present, experts=True)
    return {**config, **gguf_decoder.grouped_config(reader), "sliding_window": None}


DOTS1 = Family(
    name="dots1",
    architecture="Dots1ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*LLAMA_RULES, *EXPERTS, *SHARED_EXPERTS, *CORRECTION),
    gguf=GgufLayout(
        "dots1", gguf_hub_config, (*gguf_names.RULES, *gguf_names.EXPERTS), metadata=gguf_decoder.grouped_metadata
    ),
    harmless_keys=HARMLESS,
    neutral_values={"scoring_func": ("noaux_tc", "sigmoid"), "moe_layer_freq": (1,)},
)
