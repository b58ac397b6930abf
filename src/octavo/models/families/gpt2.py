"""GPT-2: LayerNorm before each sublayer, learned positions, biases, a plain MLP.

Unusual: hub files hold (in, out) matrices ("Conv1D") and q, k, v fused in one; the original files leave out the prefix
`transformer.` and carry causal-mask buffers.
Source: Radford et al. 2019, and the hub's `gpt2` config and weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, TransformerConfig


def read_config(
    reader: ConfigReader,
    *,
    tie: bool = True,
    activation: str = "gelu_new",
    activation_key: str = "activation_function",
    head_dim: int | None = None,
) -> TransformerConfig:
    """A hub config to switches. tie, activation: where the config does not say. head_dim None: heads fill the width."""
    hidden_size = reader.integer("n_embd", "hidden_size")
    num_heads = reader.integer("n_head", "num_attention_heads", "num_heads", high=65536)
    head_dim = head_dim or reader.shared_out(hidden_size, num_heads, "n_head")
    context_length = reader.integer("n_positions", "max_position_embeddings")
    reader.neutral({"n_ctx": (context_length,)})
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=reader.integer("n_layer", "num_hidden_layers", "num_layers", high=4096),
        context_length=context_length,
        norm=NormConfig("layer", reader.number("layer_norm_epsilon")),
        attention=AttentionConfig(num_heads, num_heads, head_dim, qkv_bias=True, output_bias=True),
        mlp=MlpConfig(
            intermediate_size=reader.integer("n_inner", "intermediate_size", default=4 * hidden_size),
            activation=reader.choice(activation_key, table=ACTIVATIONS, default=activation),
            gated=False,
            bias=True,
        ),
        rope=None,
        tie_embeddings=reader.flag("tie_word_embeddings", default=tie),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    activation = config.mlp.activation
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.attention.num_heads,
        "n_positions": config.context_length,
        "n_inner": config.mlp.intermediate_size,
        "layer_norm_epsilon": config.norm.eps,
        "activation_function": "gelu_new" if activation == "gelu_tanh" else HUB_ACTIVATIONS[activation],
        "tie_word_embeddings": config.tie_embeddings,
    }


def gguf_hub_config(
    reader: ConfigReader, present: Callable[[str], bool], *, kv_heads: int | None = None
) -> dict[str, Any]:
    """GGUF metadata of the architecture `gpt2` in hub spelling. kv_heads: None: as many as heads."""
    num_heads = reader.integer("attention.head_count")
    reader.neutral({"attention.head_count_kv": (kv_heads or num_heads,)})
    return {
        "vocab_size": reader.integer("vocab_size"),
        "n_embd": reader.integer("embedding_length"),
        "n_layer": reader.integer("block_count"),
        "n_head": num_heads,
        "n_positions": reader.integer("context_length"),
        "n_inner": reader.integer("feed_forward_length"),
        "layer_norm_epsilon": rounded(reader.number("attention.layer_norm_epsilon")),
        "tie_word_embeddings": not present("output.weight"),
    }


def _norm(stored: str, canonical: str) -> tuple[KeyRule, KeyRule]:
    return linear_rules(stored, canonical)


RULES = (
    KeyRule("transformer.wte.weight", ("embed_tokens.weight",)),
    KeyRule("transformer.wpe.weight", ("embed_positions.weight",)),
    *_norm("transformer.h.{i}.ln_1", "blocks.{i}.attention_norm"),
    *linear_rules(
        "transformer.h.{i}.attn.c_attn",
        "blocks.{i}.attention.q", "blocks.{i}.attention.k", "blocks.{i}.attention.v",
        layout="transposed",
    ),
    *linear_rules("transformer.h.{i}.attn.c_proj", "blocks.{i}.attention.o", layout="transposed"),
    *_norm("transformer.h.{i}.ln_2", "blocks.{i}.mlp_norm"),
    *linear_rules("transformer.h.{i}.mlp.c_fc", "blocks.{i}.mlp.up", layout="transposed"),
    *linear_rules("transformer.h.{i}.mlp.c_proj", "blocks.{i}.mlp.down", layout="transposed"),
    *_norm("transformer.ln_f", "norm"),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)  # fmt: skip

GGUF_RULES = (
    KeyRule("token_embd.weight", ("embed_tokens.weight",)),
    KeyRule("position_embd.weight", ("embed_positions.weight",)),
    *_norm("blk.{i}.attn_norm", "blocks.{i}.attention_norm"),
    *linear_rules("blk.{i}.attn_qkv", "blocks.{i}.attention.q", "blocks.{i}.attention.k", "blocks.{i}.attention.v"),
    *linear_rules("blk.{i}.attn_output", "blocks.{i}.attention.o"),
    *_norm("blk.{i}.ffn_norm", "blocks.{i}.mlp_norm"),
    *linear_rules("blk.{i}.ffn_up", "blocks.{i}.mlp.up"),
    *linear_rules("blk.{i}.ffn_down", "blocks.{i}.mlp.down"),
    *_norm("output_norm", "norm"),
    KeyRule("output.weight", ("lm_head.weight",)),
)

SUMMARY = ("activation", "first_dropout", "last_dropout", "proj_to_labels", "type", "use_proj")
HARMLESS = {
    **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), "dropout acts in training only"),
    **{f"summary_{key}": "for a head that is not here" for key in SUMMARY},
    "reorder_and_upcast_attn": "the same sums in another precision",
}

GPT2 = Family(
    name="gpt2",
    architecture="GPT2LMHeadModel",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    gguf=GgufLayout("gpt2", gguf_hub_config, GGUF_RULES),
    harmless_keys=HARMLESS,
    neutral_values={"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)},
    harmless_tensors=(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",),
)
GPT_SW3 = replace(GPT2, name="gpt-sw3", gguf=None)
"""GPT-SW3, which is a GPT-2 by another name."""
