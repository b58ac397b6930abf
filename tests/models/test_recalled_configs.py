"""config.json of thirty published models, written from memory in their own spelling: each is read whole, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.errors import OctavoError, UnknownNameError, UnsupportedError
from octavo.models.checkpoint import read_config
from octavo.models.families import find_family
from octavo.nn.config import TransformerConfig

COMMON: dict[str, Any] = {
    "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02, "torch_dtype": "bfloat16", "use_cache": True,
    "transformers_version": "4.46.0", "attention_dropout": 0.0,
}  # fmt: skip


def shaped(model_type: str, sizes: tuple[int, int, int, int, int, int], **more: Any) -> dict[str, Any]:
    """sizes: hidden, intermediate, layers, heads, key-value heads, vocabulary."""
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size",
    )  # fmt: skip
    usual = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 32768}
    return {**COMMON, **usual, "model_type": model_type, **dict(zip(names, sizes, strict=True)), **more}


LLAMA31 = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}  # fmt: skip
DEEPSEEK_YARN = {
    "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096, "type": "yarn",
}  # fmt: skip
KNOWN: dict[str, dict[str, Any]] = {
    "Llama-3.1-8B": shaped(
        "llama", (4096, 14336, 32, 32, 8, 128256), rope_scaling=LLAMA31, rope_theta=500000.0, mlp_bias=False,
        attention_bias=False, pretraining_tp=1, tie_word_embeddings=False, eos_token_id=[128001, 128008, 128009],
    ),
    "Yi-1.5-9B": shaped(
        "llama", (4096, 11008, 48, 32, 4, 64000), rope_theta=5000000.0, pad_token_id=0, pretraining_tp=1,
        rope_scaling=None, tie_word_embeddings=False,
    ),
    "deepseek-coder-6.7b": shaped(
        "llama", (4096, 11008, 32, 32, 32, 32256), rope_scaling={"factor": 4.0, "type": "linear"}, rope_theta=100000,
        max_position_embeddings=16384, pretraining_tp=1, tie_word_embeddings=False,
    ),
    "Falcon3-7B": shaped("llama", (3072, 23040, 28, 12, 4, 131072), head_dim=256, rope_theta=1000042, mlp_bias=False),
    "Ministral-8B": shaped(
        "ministral", (4096, 12288, 36, 32, 8, 131072), head_dim=128, sliding_window=32768, rope_theta=1e8,
        layer_types=["full_attention", *["sliding_attention"] * 3] * 9,
    ),
    "Mistral-Nemo": shaped("mistral", (5120, 14336, 40, 32, 8, 131072), head_dim=128, sliding_window=None),
    "Qwen3-30B-A3B": shaped(
        "qwen3_moe", (2048, 6144, 48, 32, 4, 151936), head_dim=128, moe_intermediate_size=768, num_experts=128,
        num_experts_per_tok=8, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], rope_theta=1e6,
        output_router_logits=False, router_aux_loss_coef=0.001, sliding_window=None, use_sliding_window=False,
        max_window_layers=48, attention_bias=False, rope_scaling=None, tie_word_embeddings=False,
    ),
    "Qwen2.5 with YaRN": shaped(
        "qwen2", (3584, 18944, 28, 28, 4, 152064), max_window_layers=28, sliding_window=131072,
        use_sliding_window=False, rope_theta=1e6,
        rope_scaling={"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
    ),
    "stablelm-2-1_6b": {
        key: value
        for key, value in shaped(
            "stablelm", (2048, 5632, 24, 32, 32, 100352), layer_norm_eps=1e-5, partial_rotary_factor=0.25,
            use_qkv_bias=True, rope_theta=10000, norm_eps=1e-5, rotary_scaling_factor=1.0,
        ).items()
        if key not in ("rms_norm_eps", "norm_eps", "rotary_scaling_factor")
    },
    "OLMoE-1B-7B": shaped(
        "olmoe", (2048, 1024, 16, 16, 16, 50304), num_experts=64, num_experts_per_tok=8, norm_topk_prob=False,
        clip_qkv=None, rope_scaling=None, rope_theta=10000.0, router_aux_loss_coef=0.01, output_router_logits=False,
        attention_bias=False, tie_word_embeddings=False, pad_token_id=1,
    ),
    "granite-3.0-1b-a400m": shaped(
        "granitemoe", (1024, 512, 24, 16, 8, 49155), attention_multiplier=0.015625, embedding_multiplier=12.0,
        residual_multiplier=0.22, logits_scaling=6.0, num_local_experts=32, num_experts_per_tok=8, rope_scaling=None,
        attention_bias=False, output_router_logits=False, router_aux_loss_coef=0.0, tie_word_embeddings=True,
    ),
    "ERNIE-4.5-0.3B": shaped(
        "ernie4_5", (1024, 3072, 18, 16, 2, 103424), head_dim=128, use_bias=False, rope_theta=500000,
        tie_word_embeddings=True, pad_token_id=0,
    ),
    "Seed-OSS-36B": shaped(
        "seed_oss", (5120, 27648, 64, 80, 8, 155136), head_dim=128, attention_bias=True, attention_out_bias=False,
        mlp_bias=False, residual_dropout=0.1, rope_scaling={"rope_type": "default"}, rope_theta=1e7,
        attention_dropout=0.1, tie_word_embeddings=False,
    ),
    "EXAONE-4.0-1.2B": shaped(
        "exaone4", (2048, 4096, 30, 32, 8, 102400), head_dim=64, sliding_window=None, sliding_window_pattern=None,
        layer_types=["full_attention"] * 30, rope_theta=1000000,
        rope_scaling={**LLAMA31, "factor": 16.0}, tie_word_embeddings=True,
    ),
    "MiniCPM-2B": shaped(
        "minicpm", (2304, 5760, 40, 36, 36, 122753), scale_emb=12, scale_depth=1.4, dim_model_base=256,
        rope_scaling=None, auto_map={"AutoConfig": "x"}, max_position_embeddings=4096,
    ),
    "internlm3-8b": shaped(
        "internlm3", (4096, 10240, 48, 32, 2, 128512), head_dim=128, qkv_bias=False, bias=False,
        rope_scaling={"factor": 6.0, "rope_type": "dynamic"}, rope_theta=50000000, auto_map={"AutoConfig": "x"},
    ),
    "DeepSeek-V3": shaped(
        "deepseek_v3", (7168, 18432, 61, 128, 128, 129280), kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128,
        qk_rope_head_dim=64, v_head_dim=128, n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8,
        moe_intermediate_size=2048, moe_layer_freq=1, first_k_dense_replace=3, n_group=8, topk_group=4,
        topk_method="noaux_tc", scoring_func="sigmoid", norm_topk_prob=True, routed_scaling_factor=2.5, ep_size=1,
        aux_loss_alpha=0.001, seq_aux=True, num_nextn_predict_layers=1, rope_scaling=DEEPSEEK_YARN, rope_theta=10000,
        attention_bias=False, auto_map={"AutoConfig": "x"}, pretraining_tp=1, max_position_embeddings=163840,
    ),
    "GLM-4.5-Air": shaped(
        "glm4_moe", (4096, 10944, 46, 96, 8, 151552), head_dim=128, partial_rotary_factor=0.5, attention_bias=True,
        use_qk_norm=False, n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=1408,
        first_k_dense_replace=1, n_group=1, topk_group=1, norm_topk_prob=True, routed_scaling_factor=1.0,
        num_nextn_predict_layers=1, rope_scaling=None, rope_theta=1000000, tie_word_embeddings=False,
    ),
    "gpt-oss-20b": shaped(
        "gpt_oss", (2880, 2880, 24, 64, 8, 201088), head_dim=64, attention_bias=True, experts_per_token=4,
        num_experts_per_tok=4, num_local_experts=32, initial_context_length=4096, max_position_embeddings=131072,
        layer_types=["sliding_attention", "full_attention"] * 12, sliding_window=128, swiglu_limit=7.0,
        output_router_logits=False, router_aux_loss_coef=0.9, rope_theta=150000, rope_scaling={
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
            "rope_type": "yarn", "truncate": False,
        },
        quantization_config={"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"},
    ),
    "Llama-4-Scout": shaped(
        "llama4_text", (5120, 8192, 48, 40, 8, 202048), head_dim=128, intermediate_size_mlp=16384, attention_bias=False,
        attention_chunk_size=8192, attn_scale=0.1, attn_temperature_tuning=4, cache_implementation="hybrid",
        floor_scale=8192, for_llm_compressor=False, interleave_moe_layer_step=1, moe_layers=[*range(48)],
        no_rope_layers=[], num_experts_per_tok=1, num_local_experts=16, output_router_logits=False, rope_scaling={
            **LLAMA31, "factor": 16.0, "high_freq_factor": 1.0,
        } | {"low_freq_factor": 0.5}, rope_theta=500000.0, router_aux_loss_coef=0.001, router_jitter_noise=0.0,
        use_qk_norm=True, max_position_embeddings=10485760,
    ),
    "Phi-3.5-MoE": shaped(
        "phimoe", (4096, 6400, 32, 32, 8, 32064), attention_bias=True, hidden_dropout=0.0, input_jitter_noise=0.01,
        lm_head_bias=True, num_experts_per_tok=2, num_local_experts=16, original_max_position_embeddings=4096,
        output_router_logits=False, rope_scaling={
            "long_factor": [2.0] * 64, "long_mscale": 1.243163121016122, "original_max_position_embeddings": 4096,
            "short_factor": [1.0] * 64, "short_mscale": 1.243163121016122, "type": "longrope",
        }, rope_theta=10000.0, router_aux_loss_coef=0.0, router_jitter_noise=0.01, sliding_window=131072,
        max_position_embeddings=131072, auto_map={"AutoConfig": "x"},
    ),
    "Apertus-8B": shaped(
        "apertus", (4096, 21504, 32, 32, 8, 131072), attention_bias=False, mlp_bias=False, post_norm=False,
        qk_norm=True, rope_scaling={**LLAMA31, "factor": 8.0}, rope_theta=12000000,
    ) | {"hidden_act": "xielu"},
    "bloom-560m": {
        "model_type": "bloom", "apply_residual_connection_post_layernorm": False, "attention_dropout": 0.0,
        "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_dropout": 0.0, "hidden_size": 1024, "initializer_range": 0.02, "layer_norm_epsilon": 1e-5,
        "masked_softmax_fusion": True, "n_head": 16, "n_inner": None, "n_layer": 24, "offset_alibi": 100,
        "pad_token_id": 3, "pretraining_tp": 1, "skip_bias_add": True, "skip_bias_add_qkv": False, "seq_length": 2048,
        "slow_but_exact": False, "unk_token_id": 0, "use_cache": True, "vocab_size": 250880,
    },
    "mpt-7b": {
        "model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "expansion_ratio": 4, "max_seq_len": 2048,
        "vocab_size": 50432, "resid_pdrop": 0.0, "emb_pdrop": 0.0, "learned_pos_emb": True, "init_device": "cpu",
        "logit_scale": None, "no_bias": True, "verbose": 0, "embedding_fraction": 1.0, "norm_type":
        "low_precision_layernorm", "use_cache": False, "init_config": {"name": "kaiming_normal_"},
        "attn_config": {
            "alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "attn_type":
            "multihead_attention", "attn_uses_sequence_id": False, "clip_qkv": None, "prefix_lm": False,
            "qk_ln": False, "softmax_scale": None,
        },
        "tokenizer_name": "EleutherAI/gpt-neox-20b", "auto_map": {"AutoConfig": "x"},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_a_recalled_config_is_read_whole(name: str) -> None:
    config = read(KNOWN[name])
    assert config.num_layers >= 12 and config.vocab_size >= 32000


def read(raw: dict[str, Any]) -> TransformerConfig:
    return read_config(find_family(raw["model_type"], "config.json"), raw, "config.json")


def test_what_the_numbers_of_recalled_configs_mean() -> None:
    deepseek = read(KNOWN["DeepSeek-V3"])
    assert deepseek.attention.scale == pytest.approx(192**-0.5 * 1.3689**2, rel=1e-4)
    assert deepseek.moe is not None and deepseek.moe.layers == (False,) * 3 + (True,) * 58
    oss = read(KNOWN["gpt-oss-20b"])
    assert oss.windows[:2] == (128, None) and oss.rope is not None
    assert oss.rope.attention_factor == pytest.approx(1.3466, abs=1e-4)
    scout, mixer = read(KNOWN["Llama-4-Scout"]), read(KNOWN["Phi-3.5-MoE"])
    assert scout.windows[:4] == (8192, 8192, 8192, None) and scout.attention.chunked and scout.attention.growth
    assert scout.moe is not None and all(scout.moe.layers) and scout.moe.scale_input
    assert mixer.rope is not None and mixer.rope.attention_factor == pytest.approx(1.2431631)
    assert read(KNOWN["MiniCPM-2B"]).residual_scale == pytest.approx(1.4 / 40**0.5)
    assert (
        read(KNOWN["Ministral-8B"]).windows == ()
        and read(KNOWN["Qwen2.5 with YaRN"]).rope != read({**KNOWN["Qwen2.5 with YaRN"], "rope_scaling": None}).rope
    )


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("lfm2", "short convolutions"),
        ("gemma3n_text", "embeddings of each block"),
        ("laguna", "heads for each block"),
        ("qwen3_next", "linear attention"),
        ("umt5", "in every block"),
        ("modernbert-decoder", "dense layer before its output"),
        ("esm", "how many tokens are masked"),
    ],
)
def test_a_family_that_is_known_and_not_here_is_refused_with_what_it_needs(model_type: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        find_family(model_type, "config.json")


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("gemma5_text", "did you mean 'gemma3_text'"),
        ("hunyuan_v2_dense", "did you mean 'hunyuan_v1_dense'"),
        ("modernbert2", "did you mean 'modernbert'"),
        ("zyx", "'zyx', a family that is not here"),
    ],
)
def test_a_family_that_nobody_here_knows_is_refused_with_the_nearest(model_type: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        find_family(model_type, "config.json")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Mistral-Nemo", {"llama_4_scaling": {"beta": 0.1}}),
        ("Llama-3.1-8B", {"quantization_config": {"quant_method": "awq", "bits": 4}}),
        ("mpt-7b", {"logit_scale": "inv_sqrt_d_model"}),
        ("OLMoE-1B-7B", {"num_experts_per_tok": 65}),
    ],
)
def test_a_key_that_changes_the_model_is_refused(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(OctavoError):
        read({**KNOWN[name], **changes})
