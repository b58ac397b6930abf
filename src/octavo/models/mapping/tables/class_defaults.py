"""What a family's class takes for a key that a config leaves out, where its row's reader would take something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KV_HEADS = {
    "mistral": 8, "mixtral": 8, "qwen2": 32, "qwen2_moe": 16, "qwen3": 32, "qwen3_moe": 4, "smollm3": 4, "gemma": 16,
    "gemma2": 4, "gemma3_text": 4, "glm": 2, "glm4": 2, "starcoder2": 2, "stablelm": 32, "seed_oss": 8, "helium": 20,
    "ernie4_5": 2, "ernie4_5_moe": 4, "exaone4": 32, "glm4_moe": 8, "dots1": 32, "gpt_oss": 8, "exaone": 8,
    "ministral3": 8, "ministral": 8, "cwm": 8, "internlm3": 2, "exaone_moe": 32, "flint": 4, "granite_swa": 4,
    "hy_v3": 8, "mellum": 4, "minimax_m2": 8, "solar_open": 8, "vaultgemma": 4, "iquestcoder": 8, "llama4_text": 8,
    "phimoe": 8, "sarvam_moe": 4,
}  # fmt: skip
"""Heads of keys and values; all other families have as many as of queries."""
LLAMA3_SCALING = {
    "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip
_OTHERS: Mapping[str, Mapping[str, Any]] = {
    "afmoe": {"head_dim": 128, "num_shared_experts": 2},
    "albert": {"hidden_act": "gelu_new"},
    "apertus": {"rope_parameters": {**LLAMA3_SCALING, "rope_theta": 12000000.0, "factor": 8.0}},
    "cwm": {"head_dim": 128, "rope_parameters": {**LLAMA3_SCALING, "rope_theta": 1000000.0, "factor": 16.0}},
    "deepseek_v2": {"n_shared_experts": 2},
    "deepseek_v3": {
        "first_k_dense_replace": 3, "n_shared_experts": 1, "routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4,
    },
    "ernie4_5": {"head_dim": 128},
    "exaone_moe": {"num_shared_experts": 1, "routed_scaling_factor": 2.5},
    "flex_olmo": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "flint": {"head_dim": 128, "mlp_only_layers": [0, 1], "norm_topk_prob": True},
    "glm4_moe": {"first_k_dense_replace": 1, "n_shared_experts": 1},
    "glm4_moe_lite": {"n_shared_experts": 1, "q_lora_rank": 768, "routed_scaling_factor": 1.8},
    "gpt_oss": {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "original_max_position_embeddings": 4096, "truncate": False,
    }},
    "granite_swa": {"tie_word_embeddings": True},
    "gte": {"type_vocab_size": 1},
    "hy_v3": {"head_dim": 128, "num_shared_experts": 1, "router_scaling_factor": 2.826},
    "internlm3": {"head_dim": 128},
    "iquestcoder": {"head_dim": 128},
    "jina_embeddings_v3": {"layer_norm_eps": 1e-05, "type_vocab_size": 1},
    "big_bird": {"hidden_act": "gelu_new", "attention_type": "block_sparse"},
    "blenderbot": {"max_position_embeddings": 128},
    "mt5": {"feed_forward_proj": "gated-gelu"},
    "minicpm3": {"q_lora_rank": 768},
    "minimax_m2": {"head_dim": 128},
    "ministral3": {"head_dim": 128, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16384, "llama_4_scaling_beta": 0.1,
    }},
    "persimmon": {"rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5,
    }},
    "plbart": {"scale_embedding": True},
    "rembert": {"tie_word_embeddings": False},
    "sarvam_mla": {
        "first_k_dense_replace": 1, "n_shared_experts": 1, "q_lora_rank": None, "routed_scaling_factor": 2.5,
    },
    "seed_oss": {"head_dim": 128},
    "sarvam_moe": {
        "head_dim": 64, "first_k_dense_replace": 1, "n_shared_experts": 1, "routed_scaling_factor": 2.5,
        "use_qk_norm": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 8000000.0, "partial_rotary_factor": 1.0},
    },
    "solar_open": {"n_shared_experts": 1},
    "xlm-roberta-xl": {"layer_norm_eps": 1e-05, "type_vocab_size": 1},
}  # fmt: skip
CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"num_key_value_heads": heads} for name, heads in _KV_HEADS.items()},
    **{
        name: {**({"num_key_value_heads": _KV_HEADS[name]} if name in _KV_HEADS else {}), **own}
        for name, own in _OTHERS.items()
    },
}
