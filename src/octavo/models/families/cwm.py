"""Code World Model: LLaMA 3's graph with a window in all but each fourth block.

Source: the hub's `cwm` config.
"""

from __future__ import annotations

from octavo.models.families import ministral
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, read_layer_types, rms, with_windows
from octavo.models.mapping.family import Family
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader), rope=RopeSpelling(theta=1e6))
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer % 4 != 0)
    return with_windows(config, slides, reader.optional_integer("sliding_window", 8192))


CWM = Family(
    name="cwm",
    architecture="CwmForCausalLM",
    read_config=read_config,
    write_config=ministral.write_config,
    rules=LLAMA_RULES,
    neutral_values={"attention_bias": (False,), "mlp_bias": (False,)},
)
