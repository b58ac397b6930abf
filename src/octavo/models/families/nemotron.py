"""Nemotron and Minitron: LayerNorms whose weights are stored less 1, half of each head turns, a squared ReLU.

Source: Parmar et al. 2024 (arXiv 2402.16819), and the hub's `nemotron` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.families.gemma2 import one_more
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm = NormConfig("layer", reader.number("norm_eps", default=1e-5), offset=True)
    spelling = RopeSpelling(partial=0.5)
    config = read_decoder(reader, norm, gated=False, activation="relu2", rope=spelling)
    bias = reader.flag("attention_bias", default=False)
    return with_biases(config, qkv=bias, output=bias, mlp=reader.flag("mlp_bias", default=False))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = {"partial_rotary_factor": 1.0, **write_decoder(config)}
    eps, bias = written.pop("layer_norm_eps"), config.attention.qkv_bias
    return {**written, "norm_eps": eps, "attention_bias": bias, "mlp_bias": config.mlp.bias}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `nemotron` in hub spelling."""
    config = gguf_decoder.decoder_config(reader, present)
    eps = config.pop("layer_norm_eps")
    return {**config, "norm_eps": eps, "hidden_act": "relu2"}


NEMOTRON = Family(
    name="nemotron",
    architecture="NemotronForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("nemotron", gguf_hub_config, one_more(gguf_names.RULES)),
    harmless_keys=dict.fromkeys(("hidden_dropout", "kv_channels", "rope_percent"), "said by others"),
)
