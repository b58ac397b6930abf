"""OPT and Galactica: GPT-2's graph with a ReLU and separate q, k and v; the table of positions begins at its third row.

The 350 m model, whose norms stand after the sums and whose embeddings are narrower, is refused by name.
Source: Zhang et al. 2022 (arXiv 2205.01068), and the hub's `opt` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_attention, with_biases
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import MlpConfig, NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    hidden_size = reader.integer("hidden_size")
    reader.neutral({"word_embed_proj_dim": (hidden_size,)})
    bias = reader.flag("enable_bias", default=True)
    activation = reader.choice("activation_function", table=ACTIVATIONS, default="relu")
    config = TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=reader.integer("num_hidden_layers", high=4096),
        context_length=reader.integer("max_position_embeddings"),
        norm=NormConfig("layer" if reader.flag("layer_norm_elementwise_affine", default=True) else "layer_bare", 1e-5),
        attention=read_attention(reader, hidden_size, None),
        mlp=MlpConfig(reader.integer("ffn_dim"), activation, gated=False),
        rope=None,
        tie_embeddings=reader.flag("tie_word_embeddings", default=True),
    )
    return with_biases(config, qkv=bias, output=bias, mlp=bias)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "word_embed_proj_dim": config.hidden_size,
        "ffn_dim": config.mlp.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.attention.num_heads,
        "max_position_embeddings": config.context_length,
        "activation_function": HUB_ACTIVATIONS[config.mlp.activation],
        "enable_bias": config.mlp.bias,
        "layer_norm_elementwise_affine": config.norm.kind == "layer",
        "tie_word_embeddings": config.tie_embeddings,
    }


LAYER, BLOCK = "model.decoder.layers.{i}.", "blocks.{i}."
RULES = (
    KeyRule("model.decoder.embed_tokens.weight", ("embed_tokens.weight",)),
    KeyRule("model.decoder.embed_positions.weight", ("embed_positions.weight",), "after_two"),
    *linear_rules(LAYER + "self_attn_layer_norm", BLOCK + "attention_norm"),
    *linear_rules(LAYER + "self_attn.q_proj", BLOCK + "attention.q"),
    *linear_rules(LAYER + "self_attn.k_proj", BLOCK + "attention.k"),
    *linear_rules(LAYER + "self_attn.v_proj", BLOCK + "attention.v"),
    *linear_rules(LAYER + "self_attn.out_proj", BLOCK + "attention.o"),
    *linear_rules(LAYER + "final_layer_norm", BLOCK + "mlp_norm"),
    *linear_rules(LAYER + "fc1", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "fc2", BLOCK + "mlp.down"),
    *linear_rules("model.decoder.final_layer_norm", "norm"),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)

OPT = Family(
    name="opt",
    architecture="OPTForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    harmless_keys={
        **dict.fromkeys(("dropout", "activation_dropout", "layerdrop", "init_std"), "training only"),
        "prefix": "the tokenizer's business",
    },
    neutral_values={"do_layer_norm_before": (True,), "_remove_final_layer_norm": (False,)},
)
