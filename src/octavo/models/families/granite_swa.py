"""Granite with sliding windows: three of four blocks have one, all have sinks, and each its own rotary base or none.

Source: the hub's `granite_swa` and `granitemoe_swa` configs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.errors import FormatError
from octavo.models.families import granite, granitemoe
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_layer_types, window_keys, with_attention
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.hub_names import LAYER
from octavo.nn.config import TransformerConfig


def _slid(reader: ConfigReader, config: TransformerConfig) -> TransformerConfig:
    """The config with its windows, its sinks and each block's base, of which 0 is no rotary embedding."""
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer % 4 != 0)
    size, rope = reader.integer("sliding_window", default=128), config.rope
    assert rope is not None, "a Granite turns"
    bases = reader.take("layer_rope_theta", [rope.theta] * config.num_layers)
    if not isinstance(bases, list) or len(bases) != config.num_layers or not all(_base(each) for each in bases):
        raise FormatError(f"{reader.source} has layer_rope_theta {bases!r}; it must be a number of 0 or more a block")
    config = replace(
        config,
        windows=tuple(size if slide else None for slide in slides),
        rope_layers=tuple(replace(rope, theta=float(each)) if each else None for each in bases),
    )
    return with_attention(config, sinks=True)


def _base(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _written(config: TransformerConfig) -> dict[str, Any]:
    bases = [0.0 if rope is None else rope.theta for rope in config.rope_layers]
    return {"layer_rope_theta": bases, **window_keys(config)}


SINKS = (KeyRule(LAYER + "self_attn.sinks", ("blocks.{i}.attention.sinks",)),)
GRANITE_SWA = replace(
    granite.GRANITE,
    name="granite_swa",
    architecture="GraniteSWAForCausalLM",
    read_config=lambda reader: _slid(reader, granite.read_config(reader)),
    write_config=lambda config: {**granite.write_config(config), **_written(config)},
    rules=(*granite.GRANITE.rules, *SINKS),
    gguf=None,
)
GRANITE_MOE_SWA = replace(
    granitemoe.GRANITE_MOE_SHARED,
    name="granitemoe_swa",
    architecture="GraniteMoeSWAForCausalLM",
    read_config=lambda reader: _slid(reader, granitemoe.read_config(reader)),
    write_config=lambda config: {**granitemoe.write_config(config), **_written(config)},
    rules=(*granitemoe.STACKED, *granitemoe.RULES, *SINKS),
    gguf=None,
)
