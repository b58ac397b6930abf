"""Granite 3 with experts, beside one that all tokens share in some: Granite's graph and multipliers.

Hub files have all experts' matrices in one tensor. Source: the hub's `granitemoe` and `granitemoeshared` configs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import granite
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_experts
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, LAYER, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config, shared = granite.read_config(reader), reader.integer("shared_intermediate_size", default=0, low=0)
    experts = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=True)
    return replace(config, moe=replace(experts, shared_size=shared or None, shared_gate=not shared))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.moe is not None, "a Granite of this kind has experts"
    return {
        **granite.write_config(config),
        "num_local_experts": config.moe.num_experts,
        "num_experts_per_tok": config.moe.experts_per_token,
        "shared_intermediate_size": config.moe.shared_size or 0,
    }


EXPERT, SHARED = "blocks.{i}.mlp.experts.{e}.", "blocks.{i}.mlp.shared."
MOE, SHARED_MLP = LAYER + "block_sparse_moe.", LAYER + "shared_mlp."
RULES = (
    *BODY,
    *ATTENTION,
    *PRE_NORMS,
    KeyRule(MOE + "router.layer.weight", ("blocks.{i}.mlp.router.weight",)),
    KeyRule(MOE + "input_linear.weight", (EXPERT + "gate.weight", EXPERT + "up.weight"), "experts"),
    KeyRule(MOE + "output_linear.weight", (EXPERT + "down.weight",), "experts"),
    KeyRule(SHARED_MLP + "input_linear.weight", (SHARED + "gate.weight", SHARED + "up.weight")),
    KeyRule(SHARED_MLP + "output_linear.weight", (SHARED + "down.weight",)),
)

STACKED = (
    KeyRule(MOE + "router.weight", ("blocks.{i}.mlp.router.weight",)),
    KeyRule(MOE + "experts.gate_up_proj", (EXPERT + "gate.weight", EXPERT + "up.weight"), "experts"),
    KeyRule(MOE + "experts.down_proj", (EXPERT + "down.weight",), "experts"),
)
"""The experts by the names of later files."""


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `granitemoe` in hub spelling."""
    shared = reader.integer("expert_shared_feed_forward_length", default=0, low=0)
    experts = gguf_decoder.expert_config(reader, "num_local_experts")
    return {**granite.gguf_hub_config(reader, present, experts=True), **experts, "shared_intermediate_size": shared}


GGUF = GgufLayout("granitemoe", gguf_hub_config, (*gguf_names.PAIR_RULES, *gguf_names.EXPERTS))


def _row(name: str, architecture: str, gguf: GgufLayout | None) -> Family:
    return Family(
        name=name,
        architecture=architecture,
        read_config=read_config,
        write_config=write_config,
        rules=RULES,
        gguf=gguf,
        harmless_keys=TRAINING_OF_EXPERTS,
        neutral_values={"position_embedding_type": ("rope",)},
    )


GRANITE_MOE = _row("granitemoe", "GraniteMoeForCausalLM", None)
GRANITE_MOE_SHARED = _row("granitemoeshared", "GraniteMoeSharedForCausalLM", GGUF)
