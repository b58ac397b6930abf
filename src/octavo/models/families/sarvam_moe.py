"""Sarvam 30B: GLM-4.5's experts in blocks whose queries, keys and values are one matrix; heads turn whole.

Source: the hub's `sarvam_moe` config.
"""

from __future__ import annotations

from octavo.models.families import glm4_moe
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.models.mapping.tables.hub_names import EXPERTS, MLP, PRE_NORMS, SHARED_EXPERTS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    if not reader.has("rope_parameters"):
        reader.raw.setdefault("partial_rotary_factor", 1.0)
    return glm4_moe.read_config(reader)


LAYER, BLOCK = "model.layers.{i}.", "blocks.{i}."
ATTENTION = {"dense": "o", "query_layernorm": "q_norm", "key_layernorm": "k_norm"}
SARVAM_MOE = Family(
    name="sarvam_moe",
    architecture="Glm4MoeForCausalLM",
    read_config=read_config,
    write_config=glm4_moe.write_config,
    rules=(
        *layer_rules("", "", {"model.word_embeddings": "embed_tokens", "model.norm": "norm", "lm_head": "lm_head"}),
        *linear_rules(LAYER + "attention.query_key_value", *QKV),
        *layer_rules(LAYER + "attention.", BLOCK + "attention.", ATTENTION),
        *MLP,
        *EXPERTS,
        *SHARED_EXPERTS,
        KeyRule(LAYER + "mlp.gate.expert_bias", (BLOCK + "mlp.correction_bias",)),
        *PRE_NORMS,
    ),
    harmless_keys=glm4_moe.GLM4_MOE.harmless_keys,
)
