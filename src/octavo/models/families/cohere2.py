"""Command R7B (Cohere 2): Command R's graph; three blocks with a window and rotary embedding, then one with neither.

Source: the hub's `cohere2` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import cohere
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_layer_types, window_keys
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = cohere.read_cohere(reader, theta=1e4)
    pattern = reader.integer("sliding_window_pattern", "_sliding_window_pattern", default=4)
    slides = read_layer_types(reader, config.num_layers, lambda layer: (layer + 1) % pattern != 0)
    size = reader.integer("sliding_window", default=4096)
    return replace(
        config,
        windows=tuple(size if slide else None for slide in slides),
        rope_layers=tuple(config.rope if slide else None for slide in slides),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**cohere.write_cohere(config), **window_keys(config)}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling; which blocks slide is not in it, but as published."""
    scale, window = rounded(reader.number("logit_scale")), reader.integer("attention.sliding_window")
    return {**gguf_decoder.decoder_config(reader, present), "logit_scale": scale, "sliding_window": window}


COHERE2 = Family(
    name="cohere2",
    architecture="Cohere2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=cohere.RULES,
    gguf=GgufLayout("cohere2", gguf_hub_config, cohere.GGUF_RULES, metadata=cohere.gguf_metadata),
    harmless_keys={
        **dict.fromkeys(("rotary_pct", "position_embedding_type", "use_gated_activation"), "peers do not read it"),
        **dict.fromkeys(("use_parallel_block", "use_parallel_embedding"), "peers do not read it"),
        "order_of_interleaved_layers": "layer_types says it",
        "use_embedding_sharing": "tie_word_embeddings says it",
    },
)
