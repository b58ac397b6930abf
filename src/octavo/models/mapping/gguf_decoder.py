"""GGUF metadata and names that most architectures share, in hub spelling; a row adds its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping.config_reader import REQUIRED, ConfigReader
from octavo.models.mapping.gguf import rope_scaling, rounded
from octavo.models.mapping.rope import yarn_of
from octavo.nn.config import Scores, TransformerConfig

Present = Callable[[str], bool]


def decoder_config(
    reader: ConfigReader, present: Present, *, theta: float = 10000.0, experts: bool = False, latent: bool = False
) -> dict[str, Any]:
    """The keys that `mapping.decoder.read_decoder` reads. theta: where the file does not say. experts: it has some.

    latent: keys and values have no width of their own; the row reads theirs.
    """
    hidden_size = reader.integer("embedding_length")
    num_heads = reader.integer("attention.head_count", high=65536)
    key_length = "rope.dimension_count" if latent else "attention.key_length"
    head_dim = reader.integer(key_length, default=max(1, hidden_size // num_heads), high=65536)
    if not latent:
        reader.neutral({"attention.value_length": (head_dim,)})
    if not experts:
        reader.neutral({"expert_count": (0,), "expert_used_count": (0,)})
    rotary_dim = reader.integer("rope.dimension_count", default=head_dim)
    rms = reader.has("attention.layer_norm_rms_epsilon")
    eps = reader.number("attention.layer_norm_rms_epsilon" if rms else "attention.layer_norm_epsilon")
    return {
        "vocab_size": reader.integer("vocab_size"),
        "hidden_size": hidden_size,
        "intermediate_size": reader.integer("feed_forward_length", default=1 if experts else REQUIRED),
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


def metadata_of(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `decoder_config`: the keys of a config, for those architectures that have no others."""
    attention, rope, moe = config.attention, config.rope, config.moe
    rms = config.norm.kind == "rms"
    keys: dict[str, Any] = {
        "context_length": config.context_length,
        "embedding_length": config.hidden_size,
        "block_count": config.num_layers,
        "feed_forward_length": config.mlp.intermediate_size,
        "attention.head_count": attention.num_heads,
        "attention.head_count_kv": attention.num_kv_heads,
        f"attention.layer_norm_{'rms_' if rms else ''}epsilon": config.norm.eps,
    }
    if rope is not None:
        keys |= {"rope.freq_base": rope.theta, "rope.dimension_count": rope.rotary_dim}
        keys |= {"attention.key_length": attention.head_dim, "attention.value_length": attention.head_dim}
        yarn = yarn_of(rope)
        if yarn is not None:
            keys |= {"rope.scaling.type": "yarn", "rope.scaling.factor": yarn["factor"]}
            keys["rope.scaling.original_context_length"] = yarn["original_max_position_embeddings"]
        elif rope.freq_factors is not None and len(set(rope.freq_factors)) == 1:
            keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.freq_factors[0]}
    if any(config.windows):
        keys["attention.sliding_window"] = max(size for size in config.windows if size is not None)
    caps = {"attn_logit_softcapping": attention.softcap, "final_logit_softcapping": config.logit_softcap}
    keys |= {key: cap for key, cap in caps.items() if cap is not None}
    if moe is not None:
        keys |= {"expert_count": moe.num_experts, "expert_used_count": moe.experts_per_token}
        if moe.intermediate_size != config.mlp.intermediate_size:
            keys["expert_feed_forward_length"] = moe.intermediate_size
    return keys


def expert_config(reader: ConfigReader, count_key: str) -> dict[str, Any]:
    """How many experts there are and how many a token goes to."""
    return {
        count_key: reader.integer("expert_count"), "num_experts_per_tok": reader.integer("expert_used_count")
    }  # fmt: skip


GATING = {"softmax": 1, "sigmoid": 2}
"""`expert_gating_func`."""


def grouped_config(reader: ConfigReader, scoring: Scores = "sigmoid") -> dict[str, Any]:
    """Experts as DeepSeek has them, in the keys of `families.deepseek_v3.read_grouped`."""
    reader.neutral({"expert_gating_func": (GATING[scoring],)})
    scale = reader.number("expert_weights_scale", default=1.0)
    return {
        **expert_config(reader, "n_routed_experts"),
        "moe_intermediate_size": reader.integer("expert_feed_forward_length"),
        "n_shared_experts": reader.optional_integer("expert_shared_count", None),
        "first_k_dense_replace": reader.integer("leading_dense_block_count", default=0, low=0),
        "norm_topk_prob": reader.flag("expert_weights_norm", default=False),
        "routed_scaling_factor": rounded(scale),
        "n_group": reader.integer("expert_group_count", default=1),
        "topk_group": reader.integer("expert_group_used_count", default=1),
    }


def grouped_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `grouped_config`."""
    moe = config.moe
    assert moe is not None, "it has experts"
    shared = {} if moe.shared_size is None else {"expert_shared_count": moe.shared_size // moe.intermediate_size}
    groups = {} if moe.groups == 1 else {
        "expert_group_count": moe.groups, "expert_group_used_count": moe.groups_kept
    }  # fmt: skip
    return {
        **shared,
        **groups,
        "expert_feed_forward_length": moe.intermediate_size,
        "leading_dense_block_count": moe.layers.index(True) if True in moe.layers else config.num_layers,
        "expert_weights_norm": moe.normalise,
        "expert_weights_scale": moe.scale,
        "expert_gating_func": GATING[moe.scoring],
    }
