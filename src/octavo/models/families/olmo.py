"""OLMo 1: LLaMA's graph with LayerNorms that have no weights; in the 7 B model q, k and v are cut to a range.

Source: Groeneveld et al. 2024 (arXiv 2402.00838), and the hub's `olmo` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias, clip = reader.flag("attention_bias", default=False), reader.optional_number("clip_qkv", None)
    config = read_decoder(reader, NormConfig("layer_bare", 1e-5))
    return with_attention(config, qkv_bias=bias, output_bias=bias, clip=clip)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = write_decoder(config)
    del written["layer_norm_eps"]
    return {**written, "attention_bias": config.attention.qkv_bias, "clip_qkv": config.attention.clip}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `olmo` in hub spelling."""
    config, clip = gguf_decoder.decoder_config(reader, present), reader.optional_number("attention.clamp_kqv", None)
    del config["layer_norm_eps"]
    return {**config, "clip_qkv": None if clip is None else rounded(clip)}


OLMO = Family(
    name="olmo",
    architecture="OlmoForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("olmo", gguf_hub_config, gguf_names.PAIR_RULES),
)
