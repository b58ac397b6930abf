"""Tiny checkpoints of the peer with every switch audible: large matrices, jittered norms and biases.

A library's own initialisation (norms 1, biases 0, logits near 0) lets wrong code pass.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

PARTS: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("tiny_sizes.py")))
COHERE_SIZES = PARTS["COHERE_SIZES"]
DEEPSEEK = PARTS["DEEPSEEK"]
ERNIE_EXPERTS = PARTS["ERNIE_EXPERTS"]
FALCON_RW = PARTS["FALCON_RW"]
FALCON_SIZES = PARTS["FALCON_SIZES"]
GEMMA = PARTS["GEMMA"]
GEMMA3 = PARTS["GEMMA3"]
GPT2_SIZES = PARTS["GPT2_SIZES"]
GROUPED = PARTS["GROUPED"]
LAYER_NORM_SIZES = PARTS["LAYER_NORM_SIZES"]
LLAMA3 = PARTS["LLAMA3"]
MPT_SIZES = PARTS["MPT_SIZES"]
NAMED_SIZES = PARTS["NAMED_SIZES"]
QWEN_EXPERTS = PARTS["QWEN_EXPERTS"]
QWEN_WINDOWS = PARTS["QWEN_WINDOWS"]
Variant = PARTS["Variant"]
YARN = PARTS["YARN"]
_falcon = PARTS["_falcon"]
_gpt2 = PARTS["_gpt2"]
_like_llama = PARTS["_like_llama"]
_llama = PARTS["_llama"]
VARIANTS: dict[str, Any] = {
    "llama": _llama(),
    "llama-mha": _llama(num_key_value_heads=4),
    "llama-mqa": _llama(num_key_value_heads=1),
    "llama-tied": _llama(tie_word_embeddings=True),
    "llama-biases": _llama(attention_bias=True, mlp_bias=True),
    "llama-head-dim": _llama(head_dim=24),
    "llama-eps-and-theta": _llama(rms_norm_eps=1e-2, rope_parameters={"rope_type": "default", "rope_theta": 100.0}),
    "llama-llama3": _llama(rope_parameters={"rope_theta": 500.0, **LLAMA3}),
    "llama-linear": _llama(rope_parameters={"rope_theta": 500.0, "rope_type": "linear", "factor": 4.0}),
    "llama-yarn": _llama(rope_parameters={"rope_theta": 500.0, **YARN}),
    "llama-dynamic": _llama(rope_parameters={"rope_theta": 500.0, "rope_type": "dynamic", "factor": 2.0}),
    "llama-proportional": _llama(rope_parameters={
        "rope_theta": 500.0, "rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.5
    }),
    "llama-gelu": _llama(hidden_act="gelu"),
    "mistral": _like_llama("mistral", sliding_window=None),
    "mistral-wide-window": _like_llama("mistral", sliding_window=128),
    "mistral-window": _like_llama("mistral", sliding_window=8),
    "gpt2": _gpt2(),
    "gpt2-untied": _gpt2(tie_word_embeddings=False),
    "gpt2-inner-gelu": _gpt2(n_inner=96, activation_function="gelu"),
    "qwen2": _like_llama("qwen2"),
    "qwen2-window": _like_llama("qwen2", **QWEN_WINDOWS),
    "qwen3": _like_llama("qwen3", head_dim=24),
    "qwen3-window-biases-tied": _like_llama(
        "qwen3", head_dim=16, attention_bias=True, tie_word_embeddings=True, **QWEN_WINDOWS
    ),
    "smollm3": _like_llama("smollm3"),
    "smollm3-window": _like_llama(
        "smollm3", use_sliding_window=True, sliding_window=8, no_rope_layers=[1, 0, 1, 0], attention_bias=True
    ),
    "olmo2": _like_llama("olmo2"),
    "olmo2-mha-biases": _like_llama("olmo2", num_key_value_heads=4, attention_bias=True),
    "granite": _like_llama(
        "granite", attention_multiplier=0.2, embedding_multiplier=3.0, residual_multiplier=0.5, logits_scaling=1.5
    ),
    "granite-minicpm": _like_llama(
        "granite", attention_multiplier=0.25, embedding_multiplier=12.0, residual_multiplier=0.7, logits_scaling=2.0
    ),
    "phi3": _like_llama("phi3"),
    "phi3-longrope": _like_llama("phi3", original_max_position_embeddings=5, rope_parameters={
        "rope_type": "longrope", "rope_theta": 500.0, "original_max_position_embeddings": 5, "attention_factor": 1.1,
        "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0],
        "long_factor": [1.5, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0],
    }),
    "phi3-window-partial-tied": _like_llama(
        "phi3", sliding_window=8, tie_word_embeddings=True, rope_parameters={
            "rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.75
        },
    ),
    "mixtral": _like_llama("mixtral", num_local_experts=5, num_experts_per_tok=2, sliding_window=None),
    "mixtral-window": _like_llama("mixtral", num_local_experts=4, num_experts_per_tok=3, sliding_window=8),
    "qwen2_moe": _like_llama("qwen2_moe", **QWEN_EXPERTS, shared_expert_intermediate_size=72, mlp_only_layers=[1]),
    "qwen2_moe-step": _like_llama(
        "qwen2_moe", **QWEN_EXPERTS, shared_expert_intermediate_size=40, decoder_sparse_step=2, qkv_bias=False
    ),
    "qwen3_moe": _like_llama("qwen3_moe", **QWEN_EXPERTS, norm_topk_prob=True, head_dim=24),
    "olmoe": _like_llama("olmoe", num_experts=6, num_experts_per_tok=2),
    "phi": Variant("phi", LAYER_NORM_SIZES),
    "phi-gqa-qk-norm": Variant("phi", {**LAYER_NORM_SIZES, "num_key_value_heads": 2, "qk_layernorm": True}),
    "gpt_neox": Variant("gpt_neox", LAYER_NORM_SIZES),
    "gpt_neox-sequential": Variant(
        "gpt_neox", {**LAYER_NORM_SIZES, "use_parallel_residual": False, "attention_bias": False}
    ),
    "gemma": _like_llama("gemma", head_dim=24),
    "glm": _like_llama("glm", head_dim=24, attention_bias=True),
    "gemma2": _like_llama("gemma2", **GEMMA),
    "gemma2-uncapped-biases": _like_llama(
        "gemma2", **{**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None}, attention_bias=True
    ),
    "gemma2-scaled-by-head": _like_llama("gemma2", **{**GEMMA, "query_pre_attn_scalar": 24}),
    "gemma3-scaled-by-head": _like_llama("gemma3_text", **{**GEMMA3, "query_pre_attn_scalar": 24}),
    "gemma3": _like_llama("gemma3_text", **GEMMA3),
    "gemma3-usual": _like_llama("gemma3_text", **{**GEMMA3, "query_pre_attn_scalar": 24}, rope_parameters={
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    }),
    "gemma3-scaled": _like_llama("gemma3_text", **GEMMA3, rope_parameters={
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    }),
    "cohere": Variant("cohere", COHERE_SIZES),
    "cohere-qk-norm": Variant("cohere", {**COHERE_SIZES, "use_qk_norm": True, "attention_bias": True}),
    "cohere2": Variant("cohere2", {**COHERE_SIZES, "sliding_window": 8}),
    "glm4": _like_llama("glm4", head_dim=24, attention_bias=True),
    "falcon-7b": _falcon(),
    "falcon-40b": _falcon(new_decoder_architecture=True, num_kv_heads=2, bias=True),
    "falcon-40b-bare": _falcon(new_decoder_architecture=True, num_kv_heads=2, bias=False),
    "falcon-11b": _falcon(
        new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, tie_word_embeddings=False
    ),
    "falcon-rw": Variant("falcon", {**FALCON_SIZES, **FALCON_RW}, "sdpa"),
    "falcon-rw-six-heads": Variant(
        "falcon", {**FALCON_SIZES, **FALCON_RW, "hidden_size": 96, "num_attention_heads": 6}, "sdpa"
    ),
}  # fmt: skip
VARIANTS |= {
    "openai-gpt": Variant("openai-gpt", GPT2_SIZES),
    "gpt_neo": Variant(
        "gpt_neo",
        {
            "hidden_size": 64,
            "num_layers": 4,
            "num_heads": 4,
            "vocab_size": 160,
            "max_position_embeddings": 128,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 8,
        },
    ),
    "gptj": Variant("gptj", {**GPT2_SIZES, "rotary_dim": 8}),
    "gpt_bigcode": Variant("gpt_bigcode", GPT2_SIZES),
    "gpt_bigcode-mha": Variant("gpt_bigcode", {**GPT2_SIZES, "multi_query": False, "activation_function": "relu"}),
    "starcoder2": Variant("starcoder2", {**NAMED_SIZES, "num_key_value_heads": 2, "sliding_window": 8}),
    "starcoder2-plain": Variant(
        "starcoder2",
        {
            **NAMED_SIZES,
            "num_key_value_heads": 2,
            "use_bias": False,
            "sliding_window": None,
            "norm_epsilon": 1e-4,
        },
    ),
    "opt": Variant(
        "opt",
        {
            "hidden_size": 64,
            "ffn_dim": 112,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "vocab_size": 160,
            "max_position_embeddings": 128,
        },
    ),
    "opt-bare": Variant(
        "opt",
        {
            "hidden_size": 64,
            "ffn_dim": 112,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "vocab_size": 160,
            "max_position_embeddings": 128,
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
        },
    ),
    "bloom": Variant("bloom", {"hidden_size": 64, "n_layer": 4, "n_head": 4, "vocab_size": 160, "seq_length": 128}),
    "bloom-six-heads": Variant(
        "bloom", {"hidden_size": 96, "n_layer": 2, "n_head": 6, "vocab_size": 160, "seq_length": 128}
    ),
    "mpt": Variant("mpt", MPT_SIZES),
    "mpt-clipped": Variant("mpt", {**MPT_SIZES, "attn_config": {"clip_qkv": 1.0, "softmax_scale": 0.2}}),
    "stablelm": Variant("stablelm", {**NAMED_SIZES, "num_key_value_heads": 2, "use_qkv_bias": True}),
    "stablelm-parallel": Variant("stablelm", {**NAMED_SIZES, "num_key_value_heads": 4, "use_parallel_residual": True}),
    "olmo": Variant("olmo", {**NAMED_SIZES, "num_key_value_heads": 2}),
    "olmo-clipped": Variant("olmo", {**NAMED_SIZES, "clip_qkv": 1.0}),
    "olmo3": _like_llama("olmo3", sliding_window=8),
    "olmo3-scaled": _like_llama(
        "olmo3",
        sliding_window=8,
        rope_parameters={
            "full_attention": {"rope_theta": 500.0, **YARN},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
        },
    ),
    "nemotron": Variant("nemotron", {**NAMED_SIZES, "num_key_value_heads": 2}),
    "nemotron-biases": Variant(
        "nemotron",
        {
            **NAMED_SIZES,
            "num_key_value_heads": 4,
            "attention_bias": True,
            "mlp_bias": True,
            "head_dim": 24,
            "norm_eps": 1e-4,
        },
    ),
    "arcee": _like_llama("arcee"),
    "seed_oss": _like_llama("seed_oss", head_dim=24),
    "helium": _like_llama("helium", head_dim=16),
    "ernie4_5": _like_llama("ernie4_5", head_dim=24),
    "ernie4_5-biases": _like_llama("ernie4_5", head_dim=16, use_bias=True),
    "exaone4": _like_llama("exaone4", sliding_window=8),
    "exaone4-full": _like_llama("exaone4", sliding_window=None, layer_types=["full_attention"] * 4),
    "granitemoe": _like_llama(
        "granitemoe", num_local_experts=5, num_experts_per_tok=2, attention_multiplier=0.2, residual_multiplier=0.5
    ),
    "granitemoeshared": _like_llama(
        "granitemoeshared",
        num_local_experts=5,
        num_experts_per_tok=2,
        shared_intermediate_size=40,
        attention_multiplier=0.2,
        logits_scaling=2.0,
    ),
    "deepseek_v3": Variant("deepseek_v3", {**DEEPSEEK, "n_group": 4, "topk_group": 2, "q_lora_rank": 24}),
    "deepseek_v3-yarn": Variant(
        "deepseek_v3",
        {
            **DEEPSEEK,
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": 24,
            "norm_topk_prob": False,
            "rope_parameters": {
                "rope_theta": 5000.0,
                **YARN,
                "mscale": 1.0,
                "mscale_all_dim": 0.7,
            },
        },
    ),
    "deepseek_v3-published-yarn": Variant(
        "deepseek_v3",
        {
            **DEEPSEEK,
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": 24,
            "rope_parameters": {"rope_theta": 5000.0, **YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "deepseek_v2": Variant(
        "deepseek_v2",
        {
            **DEEPSEEK,
            "n_group": 4,
            "topk_group": 2,
            "topk_method": "group_limited_greedy",
            "q_lora_rank": 24,
        },
    ),
    "deepseek_v2-lite": Variant(
        "deepseek_v2",
        {
            **DEEPSEEK,
            "q_lora_rank": None,
            "attention_bias": True,
            "kv_lora_rank": 24,
            "v_head_dim": 16,
        },
    ),
    "glm4_moe": _like_llama("glm4_moe", **GROUPED, head_dim=24, attention_bias=True, use_qk_norm=True),
    "dots1": _like_llama("dots1", **GROUPED, sliding_window=8, max_window_layers=2),
    "ministral": _like_llama(
        "ministral", sliding_window=8, layer_types=["full_attention", "sliding_attention"] * 2, head_dim=24
    ),
    "cwm": _like_llama("cwm", sliding_window=8, head_dim=24, rope_parameters={"rope_theta": 500.0, **LLAMA3}),
    "youtu": Variant(
        "youtu",
        {**{k: v for k, v in DEEPSEEK.items() if k not in GROUPED}, "q_lora_rank": 24, "pad_token_id": None},
    ),
    "hyperclovax": _like_llama(
        "hyperclovax", attention_multiplier=0.2, embedding_multiplier=3.0, residual_multiplier=0.5, logits_scaling=0.5
    ),
    "hyperclovax-pre": _like_llama("hyperclovax", use_post_norm=False),
    "jais2": Variant("jais2", {**NAMED_SIZES, "num_key_value_heads": 2}),
    "internlm3": _like_llama("internlm3", head_dim=24, attention_bias=True, mlp_bias=True),
    "dots1-plain": _like_llama("dots1", **GROUPED, sliding_window=None, norm_topk_prob=True),
    "gpt_oss": _like_llama(
        "gpt_oss",
        num_local_experts=5,
        num_experts_per_tok=2,
        sliding_window=8,
        head_dim=16,
        swiglu_limit=1.0,
        rope_parameters={"rope_theta": 500.0, **YARN, "truncate": False},
    ),
    "gpt_oss-yarn": _like_llama(
        "gpt_oss",
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=8,
        head_dim=16,
        rope_parameters={"rope_theta": 500.0, **YARN, "truncate": False},
    ),
    "gpt_oss-plain": _like_llama(
        "gpt_oss",
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=8,
        head_dim=16,
        rope_parameters={"rope_theta": 500.0, "rope_type": "default"},
    ),
    "qwen2_moe-all": _like_llama("qwen2_moe", **QWEN_EXPERTS, shared_expert_intermediate_size=72),
    "qwen3_moe-all": _like_llama("qwen3_moe", **QWEN_EXPERTS, norm_topk_prob=True),
    "exaone": _like_llama("exaone"),
    "exaone-biases-scaled": _like_llama(
        "exaone", attention_bias=True, mlp_bias=True, rope_parameters={"rope_theta": 500.0, **LLAMA3}
    ),
    "ernie4_5_moe": _like_llama("ernie4_5_moe", **ERNIE_EXPERTS),
    "ernie4_5_moe-some": _like_llama(
        "ernie4_5_moe", **{**ERNIE_EXPERTS, "moe_num_shared_experts": 0, "moe_layer_interval": 2}
    ),
    "ministral3": _like_llama(
        "ministral3",
        head_dim=24,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 500.0,
            "factor": 2.0,
            "original_max_position_embeddings": 64,
            "max_position_embeddings": 128,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    ),
    "hunyuan": _like_llama("hunyuan_v1_dense", head_dim=24),
    "hunyuan-alpha": _like_llama(
        "hunyuan_v1_dense",
        head_dim=16,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 500.0, "alpha": 20.0, "factor": 1.0},
    ),
}
VARIANTS |= runpy.run_path(str(Path(__file__).with_name("tiny_newer.py")))["VARIANTS"]
NO_PADDING_ID = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def make_tiny(name: str, folder: Path, *, seed: int = 0) -> PreTrainedModel:
    """The peer's model of a variant, saved to `folder` and loaded from there again, so that names are tested too."""
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(variant.model_type, **{**NO_PADDING_ID, **variant.config})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=variant.attention)
    jitter(model, seed)
    model.save_pretrained(folder)
    return load_peer(name, folder)


def load_peer(name: str, folder: Path) -> PreTrainedModel:
    """The peer's model of a folder of this variant, with the attention that is right for it."""
    attention = VARIANTS[name].attention
    loaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, output_loading_info=True)
    model: PreTrainedModel = loaded[0]
    notes = loaded[1]
    assert not notes["missing_keys"] and not notes["unexpected_keys"] and not notes["mismatched_keys"], notes
    return model.eval()


@torch.no_grad()
def jitter(model: torch.nn.Module, seed: int) -> None:
    """Matrices N(0, 1) * 1.5 / sqrt(fan_in); every vector gets 0.2 * N(0, 1) on top."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if not parameter.requires_grad:  # a table of sines, which is no weight
            continue
        if parameter.ndim > 1:
            parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
        else:
            parameter.add_(0.2 * noise)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.add_(0.3 * torch.rand(buffer.shape, generator=generator))
