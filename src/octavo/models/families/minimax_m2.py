"""MiniMax-M2: Mixtral's graph with heads normalised whole, a part of each turning, and experts as DeepSeek-V3 scores
them, without groups.

Source: the hub's `minimax_m2` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import mixtral
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, read_experts, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, LAYER
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; files as published say how many features turn, not which part."""
    rotary_dim, head_dim = reader.take("rotary_dim", None), reader.raw.get("head_dim")
    partial = rotary_dim / head_dim if isinstance(rotary_dim, int) and isinstance(head_dim, int) and head_dim else 1.0
    config = read_decoder(reader, rms(reader), rope=RopeSpelling(theta=5e6, partial=partial))
    moe = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=True)
    config = with_attention(config, qk_norm="full")
    return replace(config, moe=replace(moe, scoring="sigmoid", correction=True))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.moe is not None, "a MiniMax has experts"
    counts = {"num_local_experts": config.moe.num_experts, "num_experts_per_tok": config.moe.experts_per_token}
    return {**write_decoder(config), **counts}


CORRECTION = KeyRule(LAYER + "block_sparse_moe.e_score_correction_bias", ("blocks.{i}.mlp.correction_bias",))
MINIMAX_M2 = Family(
    name="minimax_m2",
    architecture="MiniMaxM2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*mixtral.MIXTRAL.rules, *ATTENTION, CORRECTION),
    harmless_keys={
        **TRAINING_OF_EXPERTS,
        "attn_type_list": "every block is of the one type",
        **dict.fromkeys(("mtp_transformer_layers", "num_mtp_modules", "use_mtp"), "blocks that guess are left out"),
        "shared_intermediate_size": "no expert is shared",
    },
    neutral_values={
        "use_qk_norm": (True,), "qk_norm_type": ("per_layer",), "scoring_func": ("sigmoid",),
        "use_routing_bias": (True,),
    },
    harmless_tensors=(r"model\.mtp\..*",),
)  # fmt: skip
