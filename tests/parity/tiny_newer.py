"""More tiny decoders: the families of 2025 and after, and a few old ones that came late."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

PARTS: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("tiny_sizes.py")))
DEEPSEEK = PARTS["DEEPSEEK"]
GEMMA = PARTS["GEMMA"]
GPT2_SIZES = PARTS["GPT2_SIZES"]
GROUPED = PARTS["GROUPED"]
LATENT = PARTS["LATENT"]
NAMED_SIZES = PARTS["NAMED_SIZES"]
QWEN_EXPERTS = PARTS["QWEN_EXPERTS"]
TYPES = PARTS["TYPES"]
Variant = PARTS["Variant"]
YARN = PARTS["YARN"]
_like_llama = PARTS["_like_llama"]
VARIANTS = {
    "vaultgemma": _like_llama("vaultgemma", **GEMMA),
    "solar_open": _like_llama("solar_open", **GROUPED, head_dim=24, attention_bias=True),
    "flex_olmo": _like_llama("flex_olmo", num_experts=6, num_experts_per_tok=3),
    "granite_swa": _like_llama("granite_swa", sliding_window=8, attention_multiplier=0.2, layer_rope_theta=[
        0, 100.0, 50.0, 100.0
    ]),
    "granitemoe_swa": _like_llama(
        "granitemoe_swa", sliding_window=8, num_local_experts=4, attention_multiplier=0.2, shared_intermediate_size=40
    ),
    "granitemoehybrid": _like_llama(
        "granitemoehybrid", layer_types=["full_attention"] * 4, num_local_experts=0, shared_intermediate_size=72,
        position_embedding_type="rope", mamba_n_heads=8, attention_multiplier=0.2, residual_multiplier=0.5,
    ),
    "granitemoehybrid-experts": _like_llama(
        "granitemoehybrid", layer_types=["full_attention"] * 4, num_local_experts=4, shared_intermediate_size=72,
        mamba_n_heads=8, attention_multiplier=0.2,
    ),
    "glm4_moe_lite": Variant("glm4_moe_lite", {**DEEPSEEK, "q_lora_rank": 24}),
    "sarvam_mla": Variant("sarvam_mla", {**DEEPSEEK, "q_lora_rank": None}),
    "sarvam_moe": _like_llama("sarvam_moe", **GROUPED, head_dim=24, attention_bias=True, use_qk_norm=True),
    "minimax_m2": _like_llama(
        "minimax_m2", num_local_experts=6, num_experts_per_tok=3, head_dim=16, partial_rotary_factor=0.5
    ),
    "hy_v3": _like_llama(
        "hy_v3", num_experts=6, num_experts_per_tok=3, moe_intermediate_size=48, head_dim=24, num_shared_experts=2
    ),
    "flint": _like_llama(
        "flint", **QWEN_EXPERTS, shared_expert_intermediate_size=40, head_dim=24, sliding_window=8,
        layer_types=TYPES, mlp_only_layers=[1],
    ),
    "exaone_moe": _like_llama(
        "exaone_moe", num_experts=8, num_experts_per_tok=3, moe_intermediate_size=48, sliding_window=8, n_group=2
    ),
    "hunyuan_v1_moe": _like_llama("hunyuan_v1_moe", num_experts=6, moe_topk=3, head_dim=24),
    "iquestcoder": _like_llama("iquestcoder", head_dim=24),
    "gpt-sw3": Variant("gpt-sw3", GPT2_SIZES),
    "mellum": _like_llama("mellum", **QWEN_EXPERTS, head_dim=24, sliding_window=8, layer_types=TYPES, rope_parameters={
        "full_attention": {"rope_theta": 500.0, **YARN},
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    }),
    "minicpm3": Variant("minicpm3", {**LATENT, "q_lora_rank": 24, "dim_model_base": 32, "scale_emb": 3.0}),
    "codegen": Variant("codegen", {**GPT2_SIZES, "n_head": 8, "rotary_dim": 4}),
    "persimmon": Variant("persimmon", NAMED_SIZES),
    "persimmon-plain": Variant("persimmon", {**NAMED_SIZES, "qk_layernorm": False, "hidden_act": "gelu"}),
    "biogpt": Variant("biogpt", NAMED_SIZES),
    "llama4": _like_llama(
        "llama4_text", intermediate_size=48, intermediate_size_mlp=80, head_dim=24, attention_chunk_size=8,
        num_local_experts=6, num_experts_per_tok=2, interleave_moe_layer_step=2, floor_scale=4, attn_scale=0.5,
    ),
    "llama4-one-kind": _like_llama(
        "llama4_text", intermediate_size=48, head_dim=16, num_local_experts=4, num_experts_per_tok=1,
        no_rope_layers=[1] * 4, use_qk_norm=False, attention_bias=True, attention_chunk_size=None,
    ),
    "phimoe": _like_llama("phimoe", num_local_experts=6, router_jitter_noise=0.3, sliding_window=8),
    "phimoe-longrope-biases": _like_llama(
        "phimoe", num_local_experts=4, router_jitter_noise=0.1, attention_bias=True, lm_head_bias=True,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 128,
            "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0],
            "long_factor": [1.5, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0], "short_mscale": 1.2, "long_mscale": 1.2,
        },
    ),
    "apertus": _like_llama("apertus", head_dim=24, attention_bias=True),
    "afmoe": _like_llama(
        "afmoe", num_experts=8, num_experts_per_tok=3, moe_intermediate_size=48, head_dim=24, route_scale=1.5,
        sliding_window=8, mup_enabled=True, global_attn_every_n_layers=2,
    ),
    "nanochat": _like_llama("nanochat"),
    "nanochat-biases": _like_llama("nanochat", num_key_value_heads=1, attention_bias=True),
    "ministral3-grown": _like_llama("ministral3", head_dim=24, rope_parameters={
        "rope_type": "yarn", "rope_theta": 500.0, "factor": 16.0, "original_max_position_embeddings": 8,
        "max_position_embeddings": 128, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
        "llama_4_scaling_beta": 0.4,
    }),
    "dbrx": Variant("dbrx", {
        "d_model": 64, "n_heads": 4, "n_layers": 4, "max_seq_len": 128, "vocab_size": 160,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 1.0, "rope_theta": 500.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "ffn_config": {
            "ffn_hidden_size": 48, "moe_num_experts": 6, "moe_top_k": 3, "hidden_size": 64,
        },
    }),
    "xglm": Variant("xglm", {
        "d_model": 64, "num_layers": 4, "attention_heads": 4, "ffn_dim": 112, "vocab_size": 160,
        "max_position_embeddings": 128,
    }),
    "aria_text": _like_llama("aria_text", moe_num_experts=6, moe_topk=3, moe_num_shared_experts=2),
}  # fmt: skip
