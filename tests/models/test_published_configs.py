"""Configs in the spellings of the hub's own files, older ones included: every key is understood, switches are right."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.models.families import FAMILIES
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.tables.config_keys import HARMLESS, NEUTRAL
from octavo.nn.config import RopeConfig, TransformerConfig

LLAMA_LIKE: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 12, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
    "hidden_act": "silu", "initializer_range": 0.02, "use_cache": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0", "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0,
}  # fmt: skip
GEMMA_LIKE = {
    **LLAMA_LIKE, "head_dim": 16, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 16, "cache_implementation": "hybrid", "sliding_window": 512,
}  # fmt: skip


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def read(family: str, raw: dict[str, Any]) -> TransformerConfig:
    row = FAMILIES[family]
    reader = ConfigReader(raw, "config.json")
    reader.neutral({**NEUTRAL, **row.neutral_values})
    config = row.read_config(reader)
    reader.finish({**HARMLESS, **row.harmless_keys})
    return config


LAYER_NORM_LIKE = without(LLAMA_LIKE, "rms_norm_eps", "num_key_value_heads", "attention_dropout")
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral 0.1": ("mistral", {**LLAMA_LIKE, "rope_theta": 10000.0, "sliding_window": 4096}),
    "mistral 0.3": ("mistral", {**LLAMA_LIKE, "rope_theta": 1e6, "sliding_window": None}),
    "qwen2.5": ("qwen2", {
        **LLAMA_LIKE, "rope_theta": 1e6, "sliding_window": 32768, "max_window_layers": 21, "use_mrope": False,
        "use_sliding_window": False, "tie_word_embeddings": True,
    }),
    "qwen3": ("qwen3", {
        **LLAMA_LIKE, "head_dim": 128, "attention_bias": False, "rope_scaling": None, "rope_theta": 1000000,
        "sliding_window": None, "use_sliding_window": False, "max_window_layers": 28,
    }),
    "smollm3": ("smollm3", {
        **LLAMA_LIKE, "attention_bias": False, "mlp_bias": False, "max_window_layers": 28, "pretraining_tp": 2,
        "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 3, "rope_scaling": None, "rope_theta": 5e6,
        "sliding_window": None, "use_sliding_window": False, "layer_types": ["full_attention"] * 12,
    }),
    "gemma 1": ("gemma", {
        **LLAMA_LIKE, "hidden_act": "gelu", "hidden_activation": None, "head_dim": 256, "rope_scaling": None,
    }),
    "gemma 2": ("gemma2", {
        **GEMMA_LIKE, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window_size": 512,
    }),
    "gemma 3": ("gemma3_text", {
        **without(GEMMA_LIKE, "hidden_act"), "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window_pattern": 6,
    }),
    "phi-2": ("phi", {
        **LAYER_NORM_LIKE, "layer_norm_eps": 1e-5, "hidden_act": "gelu_new", "partial_rotary_factor": 0.5,
        "num_key_value_heads": None, "qk_layernorm": False, "rope_scaling": None, "rope_theta": 1e4, "embd_pdrop": 0.0,
        "resid_pdrop": 0.1, "tie_word_embeddings": False,
    }),
    "phi-3-mini-4k": ("phi3", {
        **LLAMA_LIKE, "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}, "embd_pdrop": 0.0,
        "resid_pdrop": 0.0, "original_max_position_embeddings": 4096, "rope_scaling": None, "sliding_window": 2047,
        "rope_theta": 1e4, "attention_bias": False,
    }),
    "pythia": ("gpt_neox", {
        **LAYER_NORM_LIKE, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "rotary_pct": 0.25, "rotary_emb_base": 10000,
        "use_parallel_residual": True, "tie_word_embeddings": False, "classifier_dropout": 0.1, "hidden_dropout": 0.0,
    }),
    "command-r": ("cohere", {
        **without(LLAMA_LIKE, "rms_norm_eps"), "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "rope_theta": 8e6,
        "model_max_length": 131072, "use_qk_norm": False, "attention_bias": False,
    }),
    "command-r7b": ("cohere2", {
        **without(LLAMA_LIKE, "rms_norm_eps"), "layer_norm_eps": 1e-5, "logit_scale": 0.25, "rope_theta": 50000,
        "head_dim": 16, "rope_scaling": None, "rotary_pct": 1.0, "sliding_window": 4096, "sliding_window_pattern": 4,
        "order_of_interleaved_layers": "local_attn_first", "position_embedding_type": "rope_gptj",
        "use_embedding_sharing": True, "use_gated_activation": True, "use_parallel_block": True,
        "use_parallel_embedding": True, "attention_bias": False, "cache_implementation": "hybrid",
    }),
    "glm-4-0414": ("glm4", {
        **LLAMA_LIKE, "attention_bias": True, "head_dim": 128, "partial_rotary_factor": 0.5, "rope_theta": 1e4,
        "eos_token_id": [3, 4], "tie_word_embeddings": False,
    }),
    "falcon-7b": ("falcon", {
        "alibi": False, "apply_residual_connection_post_layernorm": False, "bias": False, "hidden_dropout": 0.0,
        "hidden_size": 64, "layer_norm_epsilon": 1e-5, "model_type": "falcon", "multi_query": True,
        "new_decoder_architecture": False, "num_attention_heads": 4, "num_hidden_layers": 12, "parallel_attn": True,
        "vocab_size": 100, "auto_map": {}, "attention_dropout": 0.0,
    }),
    "falcon-rw, older names": ("falcon", {
        "alibi": True, "bias": True, "hidden_size": 64, "layer_norm_epsilon": 1e-5, "multi_query": False,
        "n_head": 4, "n_layer": 12, "parallel_attn": False, "vocab_size": 100,
    }),
    "mixtral": ("mixtral", {
        **LLAMA_LIKE, "num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1e6, "sliding_window": None,
        "output_router_logits": False, "router_aux_loss_coef": 0.02,
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_read_whole(name: str) -> None:
    config = read(*PUBLISHED[name])
    assert (config.num_layers, config.hidden_size) == (12, 64)


def test_older_spellings_mean_what_their_authors_meant() -> None:
    gemma = read(*PUBLISHED["gemma 3"])
    assert gemma.rope == RopeConfig(1e6, 16, (8.0,) * 8)
    assert gemma.rope_layers == ((RopeConfig(1e4, 16),) * 5 + (gemma.rope,)) * 2
    assert gemma.windows == ((512,) * 5 + (None,)) * 2
    assert read(*PUBLISHED["gemma 1"]).mlp.activation == "gelu_tanh"
    command = read(*PUBLISHED["command-r7b"])
    assert command.windows == (4096, 4096, 4096, None) * 3
    assert command.rope_layers == ((command.rope,) * 3 + (None,)) * 3
    pythia = read(*PUBLISHED["pythia"])
    assert pythia.rope == RopeConfig(1e4, 4) and pythia.placement == "parallel_two"
    falcon = read(*PUBLISHED["falcon-rw, older names"])
    assert falcon.attention.alibi and falcon.rope is None and falcon.placement == "pre"
    assert read(*PUBLISHED["qwen2.5"]).windows == () and read(*PUBLISHED["mistral 0.1"]).windows == (4096,) * 12
    family, raw = PUBLISHED["gemma 2"]
    absent = read(family, without(raw, "attn_logit_softcapping", "final_logit_softcapping"))
    assert (absent.attention.softcap, absent.logit_softcap) == (50.0, 30.0)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("phi-3-mini-4k", {"rope_scaling": {"type": "su", "short_factor": [1.0] * 8, "long_factor": [2.0] * 7}},
         "long_factor"),
        ("phi-3-mini-4k", {"lm_head_bias": True}, "lm_head_bias True, which is not supported"),
        ("gemma 3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma 3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("mistral 0.1", {"layer_types": ["full_attention"] * 12}, "layer_types"),
        ("mixtral", {"num_experts_per_tok": 9}, "num_experts_per_tok 9; it must be a whole number from 1 to 8"),
        ("qwen3", {"use_sliding_windows": True}, "did you mean 'use_sliding_window'"),
        ("falcon-7b", {"n_layer": 3}, "two names of one field"),
        ("smollm3", {"no_rope_layers": [1, 2]}, "no_rope_layers"),
    ],
)  # fmt: skip
def test_what_would_change_the_model_is_refused_by_name(name: str, changes: dict[str, Any], words: str) -> None:
    family, raw = PUBLISHED[name]
    with pytest.raises(OctavoError, match=words):
        read(family, {**raw, **changes})
