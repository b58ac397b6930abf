"""Gemma 3, text alone: Gemma 2's graph without caps, with normalised heads of q and k; five blocks with a window and
rotary embedding of their own, then one that sees all, whose rotary embedding is scaled in the larger models.

Source: arXiv 2503.19786, and the hub's `gemma3_text` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import gemma2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_layer_types, with_attention
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.rope import RopeSpelling, read_rope
from octavo.models.mapping.tables.spellings import FULL, SLIDING
from octavo.nn.config import TransformerConfig

GLOBAL = RopeSpelling(theta=1e6, blocks=FULL)
LOCAL = RopeSpelling(theta=1e4, theta_key="rope_local_base_freq", blocks=SLIDING)


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = with_attention(gemma2.read_gemma(reader, GLOBAL, (None, None)), qk_norm="head")
    pattern = reader.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    slides = read_layer_types(reader, config.num_layers, lambda layer: (layer + 1) % pattern != 0)
    local = read_rope(reader, config.attention.head_dim, config.context_length, LOCAL)
    config = replace(config, rope_layers=tuple(local if slide else config.rope for slide in slides))
    return gemma2.sliding(reader, config, slides)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    blocks = zip(config.rope_layers, config.windows, strict=True)
    theta = next((rope.theta for rope, window in blocks if window and rope), LOCAL.theta)
    return {**gemma2.write_config(config), "rope_local_base_freq": theta}


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The key that only this architecture has."""
    return {"rope.freq_base_swa": write_config(config)["rope_local_base_freq"]}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `gemma3` in hub spelling."""
    theta = reader.number("rope.freq_base_swa", default=LOCAL.theta)
    return {"rope_local_base_freq": theta, **gemma2.gguf_hub_config(reader, present)}


GEMMA3 = Family(
    name="gemma3_text",
    architecture="Gemma3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=gemma2.RULES,
    gguf=GgufLayout("gemma3", gguf_hub_config, gemma2.GGUF_RULES, metadata=gguf_metadata),
    harmless_keys=gemma2.HARMLESS,
    neutral_values={**gemma2.NEUTRAL, "attn_logit_softcapping": ()},  # peers have the key, and do not cap
)
