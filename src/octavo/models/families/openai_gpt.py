"""GPT-1: LayerNorms after each sum, none at the end; GPT-2's names in one thing and another.

Hub configs say gelu and mean its tanh form. Source: Radford et al. 2018, and the hub's `openai-gpt` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import gpt2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = gpt2.read_config(reader, activation="gelu", activation_key="afn")
    if config.mlp.activation == "gelu":
        config = replace(config, mlp=replace(config.mlp, activation="gelu_tanh"))
    return replace(config, placement="post")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = gpt2.write_config(config)
    activation = written.pop("activation_function")
    del written["n_inner"]
    return {**written, "afn": activation.replace("gelu_new", "gelu")}


LAYER, BLOCK = "transformer.h.{i}.", "blocks.{i}."
RULES = (
    KeyRule("transformer.tokens_embed.weight", ("embed_tokens.weight",)),
    KeyRule("transformer.positions_embed.weight", ("embed_positions.weight",)),
    *linear_rules(LAYER + "attn.c_attn", *QKV, layout="transposed"),
    *linear_rules(LAYER + "attn.c_proj", BLOCK + "attention.o", layout="transposed"),
    *linear_rules(LAYER + "ln_1", BLOCK + "attention_output_norm"),
    *linear_rules(LAYER + "mlp.c_fc", BLOCK + "mlp.up", layout="transposed"),
    *linear_rules(LAYER + "mlp.c_proj", BLOCK + "mlp.down", layout="transposed"),
    *linear_rules(LAYER + "ln_2", BLOCK + "mlp_output_norm"),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)

OPENAI_GPT = Family(
    name="openai-gpt",
    architecture="OpenAIGPTLMHeadModel",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    harmless_keys={**gpt2.HARMLESS, "n_special": "older files count theirs"},
    neutral_values={"predict_special_tokens": (True,)},
    harmless_tensors=(r"transformer\.h\.\d+\.attn\.bias", r"transformer\.position_ids"),
)
