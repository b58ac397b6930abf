"""The sizes of tiny decoders, and what makes one of them a variant."""

from __future__ import annotations

from typing import Any, NamedTuple

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 160,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GPT2_SIZES = {
    "n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 160, "n_positions": 128,
}  # fmt: skip


class Variant(NamedTuple):
    """One tiny model of the peer: its model_type, and what its config says. attention: the peer's implementation."""

    model_type: str
    config: dict[str, Any]
    attention: str = "eager"


def _llama(**changes: Any) -> Variant:
    return Variant("llama", {**SIZES, **changes})


def _like_llama(model_type: str, **changes: Any) -> Variant:
    return Variant(model_type, {**SIZES, **changes})


def _gpt2(**changes: Any) -> Variant:
    return Variant("gpt2", {**GPT2_SIZES, **changes})


def _falcon(**changes: Any) -> Variant:
    return Variant("falcon", {**FALCON_SIZES, **changes})


LAYER_NORM_SIZES = {key: value for key, value in SIZES.items() if key not in ("rms_norm_eps", "num_key_value_heads")}
COHERE_SIZES = {key: value for key, value in SIZES.items() if key != "rms_norm_eps"} | {"logit_scale": 0.5}
FALCON_SIZES = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 160,
    "max_position_embeddings": 128,
}  # fmt: skip
FALCON_RW = {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}
GEMMA = {
    "head_dim": 24, "sliding_window": 8, "query_pre_attn_scalar": 20, "attn_logit_softcapping": 3.0,
    "final_logit_softcapping": 5.0,
}  # fmt: skip
GEMMA3 = {**GEMMA, "num_hidden_layers": 6, "attn_logit_softcapping": None}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
QWEN_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 48}
ERNIE_EXPERTS = {
    "moe_num_experts": 6, "moe_k": 3, "moe_intermediate_size": 48, "moe_num_shared_experts": 2,
    "moe_layer_start_index": 1, "head_dim": 24,
}  # fmt: skip
QWEN_WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}
GROUPED = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 32,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "routed_scaling_factor": 1.5,
}
DEEPSEEK = {
    **{key: value for key, value in SIZES.items() if key != "num_key_value_heads"},
    **GROUPED,
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "rms_norm_eps": 1e-6,
}
MPT_SIZES = {"d_model": 64, "n_layers": 4, "n_heads": 4, "vocab_size": 160, "max_seq_len": 128}
NAMED_SIZES = {key: value for key, value in SIZES.items() if key not in ("rms_norm_eps", "num_key_value_heads")}
LATENT = {key: value for key, value in DEEPSEEK.items() if key not in GROUPED}
TYPES = ["full_attention", "sliding_attention"] * 2
