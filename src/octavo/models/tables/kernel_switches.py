"""The switches of a config that the kernels know, and their numbers of activations, norms and scores."""

from __future__ import annotations

from collections.abc import Container, Mapping

from octavo.nn.kernels.tables.codes import QK_NORMS

ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "relu": 3, "quick_gelu": 4, "relu_squared": 5, "xielu": 6}
NORM_KINDS = {"rms": 0, "rms_bare": 0, "layer": 1, "layer_without_bias": 1, "layer_bare": 1}
SCORES = {"softmax": 0, "sigmoid": 1, "sparse_mixer": 2}
MAX_GROUPS, MAX_GROUP_TOP = 64, 16
PLACEMENTS = ("pre", "post", "output", "sandwich", "parallel", "parallel_two")
ROPE_SWITCHES = dict.fromkeys(
    ("theta", "rotary_dim", "freq_factors", "attention_factor", "original_length", "long_factors", "ntk_factor")
)
Switches = Mapping[str, Mapping[str, Container[object] | None]]
SWITCHES: Switches = {
    "": {
        **dict.fromkeys(
            ("vocab_size", "hidden_size", "num_layers", "context_length", "norm", "attention", "mlp", "rope",
             "rope_layers", "tie_embeddings", "windows", "head_bias", "embedding_scale", "residual_scale",
             "logit_scale", "logit_softcap", "moe", "embedding_norm", "sinusoidal", "fairseq_sines")
        ),
        "placement": PLACEMENTS,
    },
    "norm.": {"kind": NORM_KINDS, **dict.fromkeys(("eps", "offset", "round_last"))},
    "attention.": {
        **dict.fromkeys(
            ("num_heads", "num_kv_heads", "head_dim", "qkv_bias", "output_bias", "scale", "softcap", "alibi",
             "qk_norm_after_rope", "alibi_after_scale", "clip", "sinks", "latent", "output_gate", "chunked", "growth")
        ),
        "qk_norm": QK_NORMS,
    },
    "attention.growth.": dict.fromkeys(("length", "slope", "first", "turned")),
    "attention.latent.": dict.fromkeys(("kv_rank", "q_rank", "value_dim")),
    "mlp.": {"intermediate_size": None, "activation": ACTIVATIONS, "gated": None, "bias": None, "limit": None},
    "moe.": {
        **dict.fromkeys(
            ("num_experts", "experts_per_token", "intermediate_size", "normalise", "shared_size", "layers", "scale",
             "shared_gate", "bias", "correction", "groups", "groups_kept", "group_top", "scale_input", "jitter")
        ),
        "scoring": SCORES,
    },
    "rope.": ROPE_SWITCHES,
    "rope_layers.": ROPE_SWITCHES,
}  # fmt: skip
"""The switches that the kernels know, by their place in a config; and of which values, where not of all."""
ENCODER_ACTIVATIONS = {name: ACTIVATIONS[name] for name in ("silu", "gelu", "gelu_tanh", "relu")}
ENCODER_ROPE_SWITCHES = dict.fromkeys(("theta", "rotary_dim", "freq_factors", "attention_factor"))
ENCODER_SWITCHES: Switches = {
    "": {
        **dict.fromkeys(
            ("vocab_size", "hidden_size", "num_layers", "context_length", "norm", "attention", "mlp", "rope",
             "rope_layers", "tie_embeddings", "windows", "head_bias", "embedding_norm", "final_norm", "encoder")
        ),
        "placement": ("pre", "post"),
    },
    "norm.": {"kind": ("layer", "layer_without_bias"), "eps": None},
    "attention.": dict.fromkeys(("num_heads", "num_kv_heads", "head_dim", "qkv_bias", "output_bias")),
    "mlp.": {"intermediate_size": None, "activation": ENCODER_ACTIVATIONS, "gated": None, "bias": None},
    "rope.": ENCODER_ROPE_SWITCHES,
    "rope_layers.": ENCODER_ROPE_SWITCHES,
    "encoder.": dict.fromkeys(
        ("position_offset", "token_types", "embedding_size", "shared_block", "first_attention_norm",
         "head")
    ),
    "encoder.head.": dict.fromkeys(("task", "labels", "activation", "dense_bias", "norm", "pooling")),
}  # fmt: skip
"""The same of encoders; a head is no business of theirs."""
MATRICES = {
    "q": "attention.q", "k": "attention.k", "v": "attention.v", "o": "attention.o", "gate": "mlp.gate", "up": "mlp.up",
    "down": "mlp.down",
}  # fmt: skip
NORMS = ("attention_norm", "attention_output_norm", "mlp_norm", "mlp_output_norm")
"""Parts of an encoder's block: the kernels' names of matrices and ours, and the norms."""
