"""DeepSeek-V3 and R1: latent attention; experts scored by a sigmoid, chosen by group with a correction; the first
blocks have a plain MLP.

Hub files have the rotary rows of queries and keys in pair order. The block that guesses a further token is left out.
Source: arXiv 2412.19437, and the hub's `deepseek_v3` config.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import (
    BODY,
    CORRECTION,
    EXPERTS,
    LAYER,
    MLP,
    OLD_BUFFERS,
    PRE_NORMS,
    SHARED_EXPERTS,
)
from octavo.nn.config import LatentConfig, MoeConfig, Scores, TransformerConfig
from octavo.nn.frequencies import yarn_scale

SCALE_DIGITS = 12
"""Digits of the scale of the scores that are kept, so that it is the same through a file."""


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_latent(reader)
    return replace(config, moe=read_grouped(reader, config.num_layers))


def read_latent(reader: ConfigReader) -> TransformerConfig:
    """What DeepSeek-V2 and V3 share: all but the experts."""
    rotary_dim, kept = reader.integer("qk_rope_head_dim", high=65536), reader.integer("qk_nope_head_dim", high=65536)
    reader.neutral({"head_dim": (rotary_dim,), "qk_head_dim": (rotary_dim + kept,)})
    config = read_decoder(reader, rms(reader), head_dim=rotary_dim)
    reader.neutral({"num_key_value_heads": (config.attention.num_heads,)})
    bias = reader.flag("attention_bias", default=False)
    latent = LatentConfig(
        reader.integer("kv_lora_rank"), reader.optional_integer("q_lora_rank", 1536), reader.integer("v_head_dim")
    )
    return with_attention(
        config, head_dim=kept + rotary_dim, qkv_bias=bias, output_bias=bias, latent=latent,
        scale=_scale(reader, kept + rotary_dim),
    )  # fmt: skip


def _scale(reader: ConfigReader, head_dim: int) -> float | None:
    """Of the scores: yarn, as DeepSeek has it, raises it too."""
    section = reader.section("rope_parameters", "rope_scaling")
    if section is None or not section.has("mscale_all_dim") or not section.has("factor"):
        return None
    raised = yarn_scale(section.number("factor"), section.number("mscale_all_dim"))
    return round(raised**2 / math.sqrt(head_dim), SCALE_DIGITS)


def read_grouped(
    reader: ConfigReader,
    num_layers: int,
    *,
    scoring: Scores = "sigmoid",
    group_top: int = 2,
    normalise: bool = True,
    first: int = 0,
) -> MoeConfig:
    """Experts as DeepSeek has them. scoring, group_top: as `MoeConfig` has them.

    normalise, first: where the config does not say whether the chosen scores are, and which block has the first.
    """
    size = reader.integer("moe_intermediate_size")
    shared = reader.integer("n_shared_experts", "num_shared_experts", default=0, low=0)
    num_experts = reader.integer("n_routed_experts", "num_local_experts", "num_experts", high=65536)
    groups = reader.integer("n_group", default=1, high=num_experts)
    kept = reader.integer("topk_group", default=1, high=groups)
    of_one = reader.shared_out(num_experts, groups, "n_group")
    dense = reader.integer("first_k_dense_replace", default=first, low=0)
    layers = tuple(layer >= dense for layer in range(num_layers))
    if reader.has("mlp_layer_types"):
        layers = reader.entries("mlp_layer_types", num_layers, table={"dense": False, "sparse": True})
    return MoeConfig(
        num_experts=num_experts,
        experts_per_token=reader.integer("num_experts_per_tok", high=of_one * kept),
        intermediate_size=size,
        normalise=reader.flag("norm_topk_prob", default=normalise),
        shared_size=size * shared if shared else None,
        layers=layers,
        scoring=scoring,
        scale=reader.number("routed_scaling_factor", "router_scaling_factor", default=1.0),
        shared_gate=False,
        correction=scoring == "sigmoid",
        groups=groups,
        groups_kept=kept if groups > 1 else 1,
        group_top=group_top if groups > 1 else 1,
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_latent(config), **write_grouped(config)}


def write_latent(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `read_latent`."""
    attention, rope, latent = config.attention, config.rope, config.attention.latent
    assert latent is not None and rope is not None, "a DeepSeek has latent attention"
    written = write_decoder(with_attention(config, head_dim=rope.rotary_dim))
    if attention.scale is not None:  # read with the factor of the frequencies, or e, whose logarithm is one
        raised = (attention.scale * attention.head_dim**0.5) ** 0.5
        factor = written["rope_scaling"].get("factor", math.e)
        written["rope_scaling"] |= {"factor": factor, "mscale_all_dim": 10 * (raised - 1) / math.log(factor)}
    return {
        **written,
        "attention_bias": attention.qkv_bias,
        "kv_lora_rank": latent.kv_rank,
        "q_lora_rank": latent.q_rank,
        "qk_rope_head_dim": rope.rotary_dim,
        "qk_nope_head_dim": attention.head_dim - rope.rotary_dim,
        "v_head_dim": latent.value_dim,
    }


def write_grouped(config: TransformerConfig, **names: str) -> dict[str, Any]:
    """The inverse of `read_grouped`. names: what a family calls a key otherwise."""
    moe = config.moe
    assert moe is not None, "it has experts"
    written = {
        "moe_intermediate_size": moe.intermediate_size,
        "n_shared_experts": None if moe.shared_size is None else moe.shared_size // moe.intermediate_size,
        "n_routed_experts": moe.num_experts,
        "num_experts_per_tok": moe.experts_per_token,
        "n_group": moe.groups,
        "topk_group": moe.groups_kept,
        "first_k_dense_replace": moe.layers.index(True) if True in moe.layers else config.num_layers,
        "norm_topk_prob": moe.normalise,
        "routed_scaling_factor": moe.scale,
    }
    return {names.get(key, key): value for key, value in written.items()}


def write_layers(config: TransformerConfig) -> dict[str, Any]:
    """Which blocks have experts, as most later families say it."""
    assert config.moe is not None, "it has experts"
    return {"mlp_layer_types": ["sparse" if sparse else "dense" for sparse in config.moe.layers]}


STORED, CANONICAL = LAYER + "self_attn.", "blocks.{i}.attention."
LATENT = (
    *linear_rules(STORED + "q_proj", CANONICAL + "q", layout="pairs"),
    *linear_rules(STORED + "q_a_proj", CANONICAL + "q_a"),
    *linear_rules(STORED + "q_a_layernorm", CANONICAL + "q_a_norm"),
    *linear_rules(STORED + "q_b_proj", CANONICAL + "q_b", layout="pairs"),
    *linear_rules(STORED + "kv_a_proj_with_mqa", CANONICAL + "kv_a", CANONICAL + "k_rope", layout="tail_pairs"),
    *linear_rules(STORED + "kv_a_layernorm", CANONICAL + "kv_a_norm"),
    *linear_rules(STORED + "kv_b_proj", CANONICAL + "kv_b"),
    *linear_rules(STORED + "o_proj", CANONICAL + "o"),
)
RULES = (*BODY, *LATENT, *MLP, *EXPERTS, *SHARED_EXPERTS, *CORRECTION, *PRE_NORMS)
HARMLESS = {
    **TRAINING_OF_EXPERTS,
    **dict.fromkeys(("aux_loss_alpha", "seq_aux"), "training only"),
    "ep_size": "how peers spread experts",
    "num_nextn_predict_layers": "the block that guesses a further token is left out",
}


def gguf_hub_config(
    reader: ConfigReader, present: Callable[[str], bool], *, scoring: Scores = "sigmoid"
) -> dict[str, Any]:
    """GGUF metadata of the architecture `deepseek2` in hub spelling; newer files call a head's widths its `_mla`."""
    newer = reader.has("attention.key_length_mla")
    key = reader.integer("attention.key_length_mla" if newer else "attention.key_length")
    value = reader.integer("attention.value_length_mla" if newer else "attention.value_length")
    rotary = reader.integer("rope.dimension_count", high=key)
    latent = {
        "kv_lora_rank": reader.integer("attention.kv_lora_rank"),
        "q_lora_rank": reader.optional_integer("attention.q_lora_rank", None),
    }
    reader.skip("attention.key_length", "attention.value_length")
    config = gguf_decoder.decoder_config(reader, present, experts=True, latent=True)
    return {
        **config,
        **gguf_decoder.grouped_config(reader, scoring),
        **latent,
        "num_key_value_heads": config["num_attention_heads"],
        "qk_rope_head_dim": rotary,
        "qk_nope_head_dim": key - rotary,
        "v_head_dim": value,
    }


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `gguf_hub_config`, beside what all architectures have."""
    attention, latent = config.attention, config.attention.latent
    assert latent is not None, "a DeepSeek has latent attention"
    ranks = {"attention.q_lora_rank": latent.q_rank} if latent.q_rank is not None else {}
    return {
        **gguf_decoder.grouped_metadata(config),
        **ranks,
        "attention.kv_lora_rank": latent.kv_rank,
        "attention.key_length": attention.head_dim,
        "attention.value_length": latent.value_dim,
    }


GGUF_NAMES = {
    "q_proj": "attn_q", "q_a_proj": "attn_q_a", "q_a_layernorm": "attn_q_a_norm", "q_b_proj": "attn_q_b",
    "kv_a_proj_with_mqa": "attn_kv_a_mqa", "kv_a_layernorm": "attn_kv_a_norm", "kv_b_proj": "attn_kv_b",
    "o_proj": "attn_output",
}  # fmt: skip
GGUF_RULES = (
    *gguf_names.BODY,
    *(
        replace(rule, stored=rule.stored.replace(f"{STORED}{hub}.", f"blk.{{i}}.{name}."))
        for rule in LATENT
        for hub, name in GGUF_NAMES.items()
        if rule.stored.startswith(f"{STORED}{hub}.")
    ),
    *gguf_names.MLP,
    *gguf_names.EXPERTS,
    *gguf_names.PRE_NORMS,
)
DEEPSEEK_V3 = Family(
    name="deepseek_v3",
    architecture="DeepseekV3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    gguf=GgufLayout(
        "deepseek2",
        gguf_hub_config,
        GGUF_RULES,
        metadata=gguf_metadata,
        when=lambda own: own("expert_gating_func") == gguf_decoder.GATING["sigmoid"],
    ),
    harmless_keys=HARMLESS,
    harmless_tensors=OLD_BUFFERS,
    neutral_values={
        "rope_interleave": (True,), "topk_method": ("noaux_tc",), "scoring_func": ("sigmoid",), "moe_layer_freq": (1,),
    },
)  # fmt: skip
