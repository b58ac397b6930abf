"""Gemma 2: norms before and after each sublayer with weights stored less 1, capped scores and logits, and a sliding
window in every second block, beginning with the first. GGUF files store the norms' weights themselves.

Source: arXiv 2408.00118, and the hub's `gemma2` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import (
    read_decoder,
    read_layer_types,
    rms,
    window_keys,
    with_attention,
    write_decoder,
)
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.rope import PLAIN_ROPE, RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, MLP, SANDWICH_NORMS
from octavo.nn.config import TransformerConfig

WIDEST_BLOCKS = (46, 62)
"""Block counts of the 27 B models, whose scores are scaled by the width of a head if all shared hidden_size; their
GGUF files do not say so."""


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_gemma(reader, PLAIN_ROPE, (50.0, 30.0))
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer % 2 == 0)
    return sliding(reader, config, slides)


def read_gemma(
    reader: ConfigReader, rope: RopeSpelling, caps: tuple[float, float] | tuple[None, None]
) -> TransformerConfig:
    """What Gemma 2 and 3 share. caps: of scores and of logits, where the config does not say."""
    config = read_decoder(
        reader, rms(reader, offset=True, round_last=True), tie=True, head_dim=256, rope=rope,
        activation="gelu_pytorch_tanh", activation_key="hidden_activation",
    )  # fmt: skip
    bias = reader.flag("attention_bias", default=False)
    config = with_attention(
        config, qkv_bias=bias, output_bias=bias, scale=reader.number("query_pre_attn_scalar", default=256.0) ** -0.5,
        softcap=reader.optional_number("attn_logit_softcapping", caps[0]),
    )  # fmt: skip
    return replace(
        config,
        placement="sandwich",
        embedding_scale=config.hidden_size**0.5,
        logit_softcap=reader.optional_number("final_logit_softcapping", caps[1]),
    )


def sliding(reader: ConfigReader, config: TransformerConfig, slides: tuple[bool, ...]) -> TransformerConfig:
    """The config with its window in the blocks that slide."""
    size = reader.integer("sliding_window", default=4096)
    return replace(config, windows=tuple(size if slide else None for slide in slides))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written, scale = write_decoder(config), config.attention.scale
    activation = written.pop("hidden_act")
    assert scale is not None, "a Gemma says its scale"
    return {
        **written,
        "hidden_activation": activation,
        "attention_bias": config.attention.qkv_bias,
        "query_pre_attn_scalar": round(scale**-2),
        "attn_logit_softcapping": config.attention.softcap,
        "final_logit_softcapping": config.logit_softcap,
        **window_keys(config),
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architectures `gemma2` and `gemma3` in hub spelling."""
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    config = gguf_decoder.decoder_config(reader, present)
    widest = config["num_hidden_layers"] in WIDEST_BLOCKS
    scalar = config["hidden_size"] // config["num_attention_heads"] if widest else config["head_dim"]
    return {
        **config,
        **{cap: rounded(reader.number(cap)) if reader.has(cap) else None for cap in caps},
        "query_pre_attn_scalar": scalar,
        "sliding_window": reader.integer("attention.sliding_window"),
    }


def one_more(rules: tuple[KeyRule, ...]) -> tuple[KeyRule, ...]:
    """The rules, with weights of norms plus 1 in the file."""
    return tuple(replace(rule, layout="one_more") if "norm.weight" in rule.canonical[0] else rule for rule in rules)


RULES = (*BODY, *ATTENTION, *MLP, *SANDWICH_NORMS)
GGUF_RULES = one_more(
    (
        *gguf_names.BODY, *gguf_names.ATTENTION, *gguf_names.MLP, *gguf_names.PRE_NORMS,
        *gguf_names.OUTPUT_NORMS,
    )
)  # fmt: skip
HARMLESS = {
    "hidden_act": "hidden_activation says it", "sliding_window_size": "sliding_window says it"
}  # fmt: skip
NEUTRAL = {"use_bidirectional_attention": (False,)}

GEMMA2 = Family(
    name="gemma2",
    architecture="Gemma2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    gguf=GgufLayout("gemma2", gguf_hub_config, GGUF_RULES),
    harmless_keys=HARMLESS,
    neutral_values=NEUTRAL,
)
