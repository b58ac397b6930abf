"""GGUF metadata and names that most architectures share, in hub spelling; a row adds its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.gguf import rope_scaling, rounded
from octavo.models.mapping.keys import KeyRule, Layout, linear_rules

Present = Callable[[str], bool]


def decoder_config(reader: ConfigReader, present: Present, *, theta: float = 10000.0) -> dict[str, Any]:
    """The keys that `mapping.decoder.read_decoder` reads. theta: where the file does not say."""
    hidden_size = reader.integer("embedding_length")
    num_heads = reader.integer("attention.head_count", high=65536)
    head_dim = reader.integer("attention.key_length", default=max(1, hidden_size // num_heads), high=65536)
    reader.neutral({"attention.value_length": (head_dim,), "expert_count": (0,), "expert_used_count": (0,)})
    rotary_dim = reader.integer("rope.dimension_count", default=head_dim)
    rms = reader.has("attention.layer_norm_rms_epsilon")
    eps = reader.number("attention.layer_norm_rms_epsilon" if rms else "attention.layer_norm_epsilon")
    return {
        "vocab_size": reader.integer("vocab_size"),
        "hidden_size": hidden_size,
        "intermediate_size": reader.integer("feed_forward_length"),
        "num_hidden_layers": reader.integer("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": reader.integer("attention.head_count_kv", default=num_heads),
        "head_dim": head_dim,
        "max_position_embeddings": reader.integer("context_length"),
        "rms_norm_eps" if rms else "layer_norm_eps": rounded(eps),
        "tie_word_embeddings": not present("output.weight"),
        "rope_theta": rounded(reader.number("rope.freq_base", default=theta)),
        "partial_rotary_factor": rotary_dim / head_dim,
        "rope_scaling": rope_scaling(reader),
    }


BODY = (
    KeyRule("token_embd.weight", ("embed_tokens.weight",)),
    *linear_rules("output_norm", "norm"),
    *linear_rules("output", "lm_head"),
)
MLP = (
    *linear_rules("blk.{i}.ffn_gate", "blocks.{i}.mlp.gate"),
    *linear_rules("blk.{i}.ffn_up", "blocks.{i}.mlp.up"),
    *linear_rules("blk.{i}.ffn_down", "blocks.{i}.mlp.down"),
)
FUSED_MLP = (
    *linear_rules("blk.{i}.ffn_up", "blocks.{i}.mlp.gate", "blocks.{i}.mlp.up"),
    *linear_rules("blk.{i}.ffn_down", "blocks.{i}.mlp.down"),
)
QKV = ("blocks.{i}.attention.q", "blocks.{i}.attention.k", "blocks.{i}.attention.v")
FUSED_ATTENTION = (
    *linear_rules("blk.{i}.attn_qkv", *QKV),
    *linear_rules("blk.{i}.attn_output", "blocks.{i}.attention.o"),
)
PRE_NORMS = (
    *linear_rules("blk.{i}.attn_norm", "blocks.{i}.attention_norm"),
    *linear_rules("blk.{i}.ffn_norm", "blocks.{i}.mlp_norm"),
)
OUTPUT_NORMS = (
    *linear_rules("blk.{i}.post_attention_norm", "blocks.{i}.attention_output_norm"),
    *linear_rules("blk.{i}.post_ffw_norm", "blocks.{i}.mlp_output_norm"),
)


def renamed(rule: KeyRule, old: str, new: str) -> KeyRule:
    """The rule with `old` in the stored name replaced."""
    return replace(rule, stored=rule.stored.replace(old, new))


def attention_rules(layout: Layout = "plain") -> tuple[KeyRule, ...]:
    """q, k, v and o in matrices of their own, and the norms of q and k. layout: of the rows of q and k."""
    return (
        *linear_rules("blk.{i}.attn_q", "blocks.{i}.attention.q", layout=layout),
        *linear_rules("blk.{i}.attn_k", "blocks.{i}.attention.k", layout=layout),
        *linear_rules("blk.{i}.attn_v", "blocks.{i}.attention.v"),
        *linear_rules("blk.{i}.attn_output", "blocks.{i}.attention.o"),
        *linear_rules("blk.{i}.attn_q_norm", "blocks.{i}.attention.q_norm"),
        *linear_rules("blk.{i}.attn_k_norm", "blocks.{i}.attention.k_norm"),
    )


RULES = (*BODY, *attention_rules(), *MLP, *PRE_NORMS)
PAIR_RULES = (*BODY, *attention_rules("pairs"), *MLP, *PRE_NORMS)
FUSED_RULES = (*BODY, *FUSED_ATTENTION, *MLP, *PRE_NORMS)
