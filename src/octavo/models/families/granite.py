"""Granite 3: LLaMA's graph with four multipliers: of embeddings, scores, what each sublayer adds, and logits.

Source: the hub's `granite` config; muP (arXiv 2203.03466) for the multipliers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = with_attention(read_decoder(reader, rms(reader)), scale=reader.number("attention_multiplier", default=1.0))
    config = with_biases(config, qkv=bias, output=bias, mlp=reader.flag("mlp_bias", default=False))
    return replace(
        config,
        embedding_scale=reader.number("embedding_multiplier", default=1.0),
        residual_scale=reader.number("residual_multiplier", default=1.0),
        logit_scale=1 / reader.number("logits_scaling", default=1.0),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        **write_decoder(config),
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.mlp.bias,
        "attention_multiplier": config.attention.scale,
        "embedding_multiplier": config.embedding_scale,
        "residual_multiplier": config.residual_scale,
        "logits_scaling": round(1 / config.logit_scale, 12),
    }


SCALES = {
    "attention_multiplier": "attention.scale", "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale", "logits_scaling": "logit_scale",
}  # fmt: skip
"""What hub configs and GGUF files call them."""


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool], *, experts: bool = False) -> dict[str, Any]:
    """GGUF metadata in hub spelling."""
    scales = {hub: rounded(reader.number(stored, default=1.0)) for hub, stored in SCALES.items()}
    return {**gguf_decoder.decoder_config(reader, present, experts=experts), **scales}


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The scales as GGUF files have them."""
    hub = write_config(config)
    return {stored: float(hub[name]) for name, stored in SCALES.items()}


GRANITE = Family(
    name="granite",
    architecture="GraniteForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("granite", gguf_hub_config, gguf_names.PAIR_RULES, metadata=gguf_metadata),
)
