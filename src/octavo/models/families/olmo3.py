"""OLMo 3: OLMo 2's graph with a window in three of four blocks, where the rotary embedding is not scaled.

Source: the hub's `olmo3` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import olmo2
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import layer_types, read_layer_types, window_keys
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.rope import RopeSpelling, read_rope, write_rope
from octavo.models.mapping.tables.spellings import FULL, SLIDING
from octavo.nn.config import TransformerConfig

GLOBAL, LOCAL = RopeSpelling(theta=5e5, blocks=FULL), RopeSpelling(theta=5e5, blocks=SLIDING)


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return with_two_ropes(reader, olmo2.read_config(reader, GLOBAL), LOCAL, lambda layer: (layer + 1) % 4 != 0, 4096)


def with_two_ropes(
    reader: ConfigReader, config: TransformerConfig, local: RopeSpelling, slides: Callable[[int], bool], size: int
) -> TransformerConfig:
    """The config with its windows, and the rotary embedding `local` in blocks that have one.

    slides, size: which have one and how wide it is, where the config does not say.
    """
    near = read_rope(reader, config.attention.head_dim, config.context_length, local)
    kinds = read_layer_types(reader, config.num_layers, slides)
    size = reader.integer("sliding_window", default=size)
    return replace(
        config,
        windows=tuple(size if slide else None for slide in kinds),
        rope_layers=tuple(near if slide else config.rope for slide in kinds),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return write_two_ropes(config, olmo2.write_config(config))


def write_two_ropes(config: TransformerConfig, written: dict[str, Any]) -> dict[str, Any]:
    """What `with_two_ropes` reads, beside what is written already, from which the one of all blocks is taken out."""
    slides = tuple(window is not None for window in config.windows)
    near = next((rope for rope, slide in zip(config.rope_layers, slides, strict=True) if slide and rope), config.rope)
    assert near is not None, "every block turns"
    local = write_rope(near, config.attention.head_dim, config.context_length)
    far = {key: written.pop(key) for key in ("rope_theta", "rope_scaling")}
    ropes = {
        kind: {"rope_theta": rope["rope_theta"], **(rope["rope_scaling"] or {"rope_type": "default"})}
        for kind, rope in ((FULL, far), (SLIDING, local))
    }
    return {**written, "rope_parameters": ropes, **window_keys(config)}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling; only blocks that see all have their frequencies scaled."""
    config = gguf_decoder.decoder_config(reader, present, theta=5e5)
    theta, scaling = config.pop("rope_theta"), config.pop("rope_scaling") or {"rope_type": "default"}
    slides = reader.take("attention.sliding_window_pattern", None)
    types = {} if slides is None else {"layer_types": layer_types(tuple(map(bool, slides)))}
    return {
        **config,
        **types,
        "sliding_window": reader.integer("attention.sliding_window"),
        "rope_parameters": {
            FULL: {"rope_theta": theta, **scaling}, SLIDING: {"rope_theta": theta, "rope_type": "default"}
        },
    }  # fmt: skip


OLMO3 = Family(
    name="olmo3",
    architecture="Olmo3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=olmo2.OLMO2.rules,
    gguf=GgufLayout(
        "olmo2",
        gguf_hub_config,
        olmo2.GGUF_RULES,
        when=lambda own: bool(own("attention.sliding_window")),
        metadata=lambda config: {"attention.sliding_window_pattern": [window is not None for window in config.windows]},
    ),
)
