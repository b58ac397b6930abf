"""DBRX: Mixtral's graph with LayerNorms without biases, and q, k and v in one matrix and cut to a range.

Unusual: all experts of a block lie in three matrices, one expert under the other. Source: Databricks 2024, and the
hub's `dbrx` config.
"""

from __future__ import annotations

from typing import Any

from octavo.errors import FormatError, UnsupportedError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.rope import RopeSpelling, read_rope, write_rope
from octavo.models.mapping.tables.config_keys import HARMLESS, NEUTRAL
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import AttentionConfig, MlpConfig, MoeConfig, NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    width, heads, count = reader.integer("d_model"), reader.integer("n_heads"), reader.integer("n_layers", high=4096)
    attn, length = reader.section("attn_config"), reader.integer("max_seq_len")
    if attn is None:
        raise FormatError(f"{reader.source} lacks the field 'attn_config'; add it", param="attn_config")
    attn.skip(*HARMLESS, *NEUTRAL, "attn_pdrop")
    attention = AttentionConfig(
        heads,
        attn.integer("kv_n_heads", default=1, high=heads),
        reader.shared_out(width, heads, "n_heads"),
        clip=attn.optional_number("clip_qkv", None),
    )
    theta = attn.number("rope_theta", default=10000.0)
    experts = _experts(reader, count)
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=width,
        num_layers=count,
        context_length=length,
        norm=NormConfig("layer_without_bias", 1e-5),
        attention=attention,
        mlp=MlpConfig(experts.intermediate_size, "silu", gated=True),
        rope=read_rope(reader, attention.head_dim, length, RopeSpelling(theta=theta)),
        tie_embeddings=reader.flag("tie_word_embeddings", default=False),
        moe=experts,
    )


def _experts(reader: ConfigReader, count: int) -> MoeConfig:
    section = reader.section("ffn_config")
    if section is None or section.take("ffn_act_fn", {"name": "silu"}) != {"name": "silu"}:
        raise UnsupportedError(f"{reader.source} has no ffn_config with the activation silu", param="ffn_config")
    section.skip(*HARMLESS, *NEUTRAL, "hidden_size", "moe_jitter_eps", "moe_loss_weight")
    norm = section.take("moe_normalize_expert_weights", 1.0)
    if norm not in (None, 1):
        raise UnsupportedError(f"{reader.source} has moe_normalize_expert_weights {norm!r}; only 1 is done here")
    experts = section.integer("moe_num_experts", high=65536)
    chosen = section.integer("moe_top_k", high=experts)
    return MoeConfig(experts, chosen, section.integer("ffn_hidden_size"), norm is not None, None, (True,) * count)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    moe, rope, attention = config.moe, config.rope, config.attention
    assert moe is not None and rope is not None, "a DBRX has experts, and its heads turn"
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": attention.num_heads,
        "max_seq_len": config.context_length,
        "attn_config": {
            "kv_n_heads": attention.num_kv_heads,
            "clip_qkv": attention.clip,
            "rope_theta": rope.theta,
        },
        "ffn_config": {
            "ffn_hidden_size": moe.intermediate_size,
            "moe_num_experts": moe.num_experts,
            "moe_top_k": moe.experts_per_token,
            "moe_normalize_expert_weights": 1.0 if moe.normalise else None,
        },
        "tie_word_embeddings": config.tie_embeddings,
        **write_rope(rope, attention.head_dim, config.context_length),
    }


LAYER, BLOCK = "transformer.blocks.{i}.", "blocks.{i}."
EXPERT = BLOCK + "mlp.experts.{e}."
DBRX = Family(
    name="dbrx",
    architecture="DbrxForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        KeyRule("transformer.wte.weight", ("embed_tokens.weight",)),
        *linear_rules(LAYER + "norm_attn_norm.norm_1", BLOCK + "attention_norm"),
        *linear_rules(LAYER + "norm_attn_norm.attn.Wqkv", *QKV),
        *linear_rules(LAYER + "norm_attn_norm.attn.out_proj", BLOCK + "attention.o"),
        *linear_rules(LAYER + "norm_attn_norm.norm_2", BLOCK + "mlp_norm"),
        KeyRule(LAYER + "ffn.router.layer.weight", (BLOCK + "mlp.router.weight",)),
        KeyRule(LAYER + "ffn.experts.mlp.w1", (EXPERT + "gate.weight",), "expert_rows"),
        KeyRule(LAYER + "ffn.experts.mlp.v1", (EXPERT + "up.weight",), "expert_rows"),
        KeyRule(LAYER + "ffn.experts.mlp.w2", (EXPERT + "down.weight",), "swapped_expert_rows"),
        *linear_rules("transformer.norm_f", "norm"),
        KeyRule("lm_head.weight", ("lm_head.weight",)),
    ),
    prefix="transformer.",
    harmless_keys={
        **dict.fromkeys(("emb_pdrop", "resid_pdrop", "router_aux_loss_coef"), "training only"),
        "output_router_logits": "how peers are called",
        "num_key_value_heads": "said by attn_config",
    },
)
