"""Tiny checkpoints of the peer with every switch audible: large matrices, jittered norms and biases.

A library's own initialisation (norms 1, biases 0, logits near 0) lets wrong code pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 160,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "attn_implementation": "eager",
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GPT2_SIZES = {
    "n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 160, "n_positions": 128, "attn_implementation": "eager",
}  # fmt: skip


class Variant(NamedTuple):
    """One tiny model of the peer: which class, and what differs from SIZES."""

    model: type[PreTrainedModel]
    config: type[Any]
    sizes: dict[str, Any]
    changes: dict[str, Any]


def _llama(**changes: Any) -> Variant:
    return Variant(LlamaForCausalLM, LlamaConfig, SIZES, changes)


VARIANTS: dict[str, Variant] = {
    "llama": _llama(),
    "llama-mha": _llama(num_key_value_heads=4),
    "llama-mqa": _llama(num_key_value_heads=1),
    "llama-tied": _llama(tie_word_embeddings=True),
    "llama-biases": _llama(attention_bias=True, mlp_bias=True),
    "llama-head-dim": _llama(head_dim=24),
    "llama-eps-and-theta": _llama(rms_norm_eps=1e-2, rope_parameters={"rope_type": "default", "rope_theta": 100.0}),
    "llama-llama3": _llama(rope_parameters={"rope_theta": 500.0, **LLAMA3}),
    "llama-linear": _llama(rope_parameters={"rope_theta": 500.0, "rope_type": "linear", "factor": 4.0}),
    "llama-gelu": _llama(hidden_act="gelu"),
    "mistral": Variant(MistralForCausalLM, MistralConfig, SIZES, {"sliding_window": None}),
    "mistral-wide-window": Variant(MistralForCausalLM, MistralConfig, SIZES, {"sliding_window": 128}),
    "gpt2": Variant(GPT2LMHeadModel, GPT2Config, GPT2_SIZES, {}),
    "gpt2-untied": Variant(GPT2LMHeadModel, GPT2Config, GPT2_SIZES, {"tie_word_embeddings": False}),
    "gpt2-inner-gelu": Variant(GPT2LMHeadModel, GPT2Config, GPT2_SIZES, {"n_inner": 96, "activation_function": "gelu"}),
}


def make_tiny(name: str, folder: Path, *, seed: int = 0) -> PreTrainedModel:
    """The peer's model of a variant, saved to `folder` and loaded from there again, so that names are tested too."""
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    model = variant.model(variant.config(**{**variant.sizes, **variant.changes}))
    jitter(model, seed)
    model.save_pretrained(folder)
    return variant.model.from_pretrained(folder, attn_implementation="eager").eval()


@torch.no_grad()
def jitter(model: torch.nn.Module, seed: int) -> None:
    """Matrices N(0, 1) * 1.5 / sqrt(fan_in); every vector gets 0.2 * N(0, 1) on top."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
        else:
            parameter.add_(0.2 * noise)
