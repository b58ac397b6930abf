"""Command R and R+ (Cohere): attention and gated MLP read one LayerNorm without a bias; logits are scaled.

Hub files have the rows of q and k in pair order; R+ normalises each head of q and k with weights of its own.
Source: the hub's `cohere` config and weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import ATTENTION_NORM, BODY, LAYER, MLP, PAIR_PROJECTIONS
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_cohere(reader, theta=5e5)
    return with_attention(config, qk_norm="per_head" if reader.flag("use_qk_norm", default=False) else None)


def read_cohere(reader: ConfigReader, *, theta: float) -> TransformerConfig:
    """What Cohere and Cohere 2 share."""
    norm = NormConfig("layer_without_bias", reader.number("layer_norm_eps"))
    config = read_decoder(reader, norm, tie=True, rope=RopeSpelling(theta=theta))
    bias = reader.flag("attention_bias", default=False)
    config = with_attention(config, qkv_bias=bias, output_bias=bias)
    return replace(config, placement="parallel", logit_scale=reader.number("logit_scale", default=0.0625))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_cohere(config), "use_qk_norm": config.attention.qk_norm is not None}


def write_cohere(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `read_cohere`."""
    scale, bias = config.logit_scale, config.attention.qkv_bias
    return {**write_decoder(config), "logit_scale": scale, "attention_bias": bias}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `command-r` in hub spelling."""
    config = gguf_decoder.decoder_config(reader, present)
    scale = rounded(reader.number("logit_scale"))
    return {**config, "logit_scale": scale, "use_qk_norm": present("blk.0.attn_q_norm.weight")}


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The key that only Cohere's architectures have."""
    return {"logit_scale": config.logit_scale}


def _head_norms(stored: str) -> tuple[KeyRule, ...]:
    leaves = ("q_norm.weight", "k_norm.weight")
    return tuple(KeyRule(stored + leaf, ("blocks.{i}.attention." + leaf,), "head_pairs") for leaf in leaves)


RULES = (
    *BODY, *PAIR_PROJECTIONS, *_head_norms(LAYER + "self_attn."), *MLP,
    *ATTENTION_NORM,
)  # fmt: skip
GGUF_RULES = (
    *gguf_names.BODY, *gguf_names.PAIR_PROJECTIONS, *_head_norms("blk.{i}.attn_"), *gguf_names.MLP,
    *gguf_names.PRE_NORMS,
)  # fmt: skip

COHERE = Family(
    name="cohere",
    architecture="CohereForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    gguf=GgufLayout("command-r", gguf_hub_config, GGUF_RULES, metadata=gguf_metadata),
    harmless_keys={"model_max_length": "for tokenizers"},
)
