"""Aria's language model: LLaMA's graph with experts, beside some that all tokens share.

Source: arXiv 2410.05993, and the hub's `aria_text` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import llama
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_experts
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, LAYER, PRE_NORMS, SHARED_EXPERTS
from octavo.nn.config import TransformerConfig

NAMES = {"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_topk"}


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    reader.raw |= {ours: reader.take(theirs, None) for ours, theirs in NAMES.items()}
    config = llama.read_config(reader)
    moe = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=True)
    shared = moe.intermediate_size * reader.integer("moe_num_shared_experts", default=2)
    return replace(config, moe=replace(moe, shared_size=shared, shared_gate=False))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    moe = config.moe
    assert moe is not None and moe.shared_size is not None, "an Aria has both"
    return {
        **llama.write_config(config),
        "moe_num_experts": moe.num_experts,
        "moe_topk": moe.experts_per_token,
        "moe_num_shared_experts": moe.shared_size // moe.intermediate_size,
    }


EXPERT = "blocks.{i}.mlp.experts.{e}."
ARIA_TEXT = Family(
    name="aria_text",
    architecture="AriaTextForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY,
        *ATTENTION,
        *PRE_NORMS,
        *linear_rules(LAYER + "mlp.router", "blocks.{i}.mlp.router"),
        KeyRule(LAYER + "mlp.experts.fc1.weight", (EXPERT + "gate.weight", EXPERT + "up.weight"), "swapped_experts"),
        KeyRule(LAYER + "mlp.experts.fc2.weight", (EXPERT + "down.weight",), "swapped_experts"),
        *SHARED_EXPERTS,
    ),
    harmless_keys={"moe_z_loss_coeff": "training only", "moe_aux_loss_coeff": "training only"},
    neutral_values={"hidden_act": ("silu",), "mlp_bias": (False,)},
)
