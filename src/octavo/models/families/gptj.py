"""GPT-J: attention and MLP read one LayerNorm side by side; a part of each head turns, in pair order in the files.

Source: Wang and Komatsuzaki 2021, and the hub's `gptj` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import gpt2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.nn.config import RopeConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = gpt2.read_config(reader, tie=False)
    rotary_dim = reader.integer("rotary_dim", default=64, high=config.attention.head_dim)
    config = with_attention(config, qkv_bias=False, output_bias=False)
    return replace(config, placement="parallel", head_bias=True, rope=RopeConfig(10000.0, rotary_dim))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.rope is not None, "a GPT-J turns"
    return {**gpt2.write_config(config), "rotary_dim": config.rope.rotary_dim}


LAYER, BLOCK = "transformer.h.{i}.", "blocks.{i}."
RULES = (
    KeyRule("transformer.wte.weight", ("embed_tokens.weight",)),
    *linear_rules(LAYER + "ln_1", BLOCK + "attention_norm"),
    *linear_rules(LAYER + "attn.q_proj", BLOCK + "attention.q", layout="pairs"),
    *linear_rules(LAYER + "attn.k_proj", BLOCK + "attention.k", layout="pairs"),
    *linear_rules(LAYER + "attn.v_proj", BLOCK + "attention.v"),
    *linear_rules(LAYER + "attn.out_proj", BLOCK + "attention.o"),
    *linear_rules(LAYER + "mlp.fc_in", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "mlp.fc_out", BLOCK + "mlp.down"),
    *linear_rules("transformer.ln_f", "norm"),
    *linear_rules("lm_head", "lm_head"),
)

GPTJ = Family(
    name="gptj",
    architecture="GPTJForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    harmless_keys={**gpt2.HARMLESS, "rotary": "it always is"},
    neutral_values={"scale_attn_weights": (True,)},
    harmless_tensors=(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",),
)
