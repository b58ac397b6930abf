"""Helium: LLaMA's graph; hub files have the rows of q and k in pair order.

Source: the hub's `helium` config.
"""

from __future__ import annotations

from octavo.models.families import llama
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases
from octavo.models.mapping.family import Family
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.hub_names import BODY, MLP, PAIR_ATTENTION, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader, round_last=True), head_dim=128, rope=RopeSpelling(theta=1e5))
    return with_biases(config, qkv=bias, output=False, mlp=reader.flag("mlp_bias", default=False))


HELIUM = Family(
    name="helium",
    architecture="HeliumForCausalLM",
    read_config=read_config,
    write_config=llama.write_config,
    rules=(*BODY, *PAIR_ATTENTION, *MLP, *PRE_NORMS),
)
