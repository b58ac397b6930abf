"""Flint: Qwen3's graph with experts scored by a sigmoid beside one that all tokens share, sinks, and rotary embedding
in the blocks with a window alone.

Source: the hub's `flint` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import qwen2_moe, qwen3_moe
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_layer_types, window_keys, with_attention
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import LAYER
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = with_attention(qwen3_moe.read_config(reader), sinks=True)
    last = config.num_layers - 1
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer >= 2 and layer % 4 != 1 and layer != last)
    size = reader.integer("sliding_window", default=513)
    assert config.moe is not None, "a Flint has experts"
    shared = reader.integer("shared_expert_intermediate_size", default=1024)
    return replace(
        config,
        norm=replace(config.norm, round_last=True),
        windows=tuple(size if slide else None for slide in slides),
        rope_layers=tuple(config.rope if slide else None for slide in slides),
        moe=replace(config.moe, scoring="sigmoid", shared_size=shared, shared_gate=False),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    shared = {"shared_expert_intermediate_size": config.moe.shared_size if config.moe else None}
    return {**qwen3_moe.write_config(config), **window_keys(config), **shared}


FLINT = Family(
    name="flint",
    architecture="FlintForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *qwen3_moe.QWEN3_MOE.rules,
        *qwen2_moe.SHARED,
        KeyRule(LAYER + "self_attn.softmax_offset", ("blocks.{i}.attention.sinks",)),
    ),
    harmless_keys=TRAINING_OF_EXPERTS,
)
