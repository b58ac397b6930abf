"""Qwen2 and Qwen2.5: LLaMA's graph with biases on q, k and v; a sliding window, if switched on, in the upper blocks.

Source: arXiv 2407.10671, 2412.15115, and the hub's `qwen2` config.
"""

from __future__ import annotations

from collections.abc import Callable
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
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES, OLD_BUFFERS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return with_upper_windows(reader, with_biases(read_decoder(reader, rms(reader)), qkv=True, output=False))


def with_upper_windows(reader: ConfigReader, config: TransformerConfig) -> TransformerConfig:
    """The window of `use_sliding_window`: in the blocks that `layer_types` names, else from `max_window_layers` on."""
    first = reader.integer("max_window_layers", default=28, low=0)
    size = reader.optional_integer("sliding_window", 4096)
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer >= first)
    return with_windows(config, slides, size if reader.flag("use_sliding_window", default=False) else None)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), **write_windows(config)}


def write_windows(config: TransformerConfig) -> dict[str, Any]:
    """The keys that `with_upper_windows` reads."""
    return {"use_sliding_window": any(config.windows), **window_keys(config)}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architectures `qwen2` and `qwen3` in hub spelling."""
    return gguf_decoder.decoder_config(reader, present, theta=1e6)


QWEN2 = Family(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("qwen2", gguf_hub_config, gguf_names.RULES),
    neutral_values={"use_mrope": (False,)},
    harmless_tensors=OLD_BUFFERS,
)
