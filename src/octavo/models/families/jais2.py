"""Jais 2: LLaMA's graph with LayerNorms, biases, and a plain MLP with a squared ReLU.

Source: the hub's `jais2` config.
"""

from __future__ import annotations

from octavo.models.families import llama
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_biases
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm = NormConfig("layer", reader.number("layer_norm_eps", default=1e-5))
    config = read_decoder(reader, norm, gated=False, activation="relu2")
    bias = reader.flag("attention_bias", default=True)
    return with_biases(config, qkv=bias, output=bias, mlp=reader.flag("mlp_bias", default=True))


JAIS2 = Family(
    name="jais2",
    architecture="Jais2ForCausalLM",
    read_config=read_config,
    write_config=llama.write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("jais2", gguf_decoder.decoder_config, gguf_names.RULES),
)
