"""ERNIE 4.5, the dense models: LLaMA's graph; hub files have the rows of q and k in pair order.

Source: the hub's `ernie4_5` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import BODY, MLP, PAIR_ATTENTION, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("use_bias", default=False)
    config = read_decoder(reader, rms(reader), tie=True, rope=RopeSpelling(theta=5e5))
    return with_biases(config, qkv=bias, output=bias, mlp=bias)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "use_bias": config.mlp.bias}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `ernie4_5` in hub spelling."""
    return {**gguf_decoder.decoder_config(reader, present), "use_bias": present("blk.0.attn_q.bias")}


ERNIE4_5 = Family(
    name="ernie4_5",
    architecture="Ernie4_5ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *PAIR_ATTENTION, *MLP, *PRE_NORMS),
    gguf=GgufLayout("ernie4_5", gguf_hub_config, gguf_names.PAIR_RULES),
)
