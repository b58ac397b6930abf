"""Names of tensors that hub files of many families share, which are LLaMA's; a row picks them and adds its own."""

from __future__ import annotations

from octavo.models.mapping.keys import KeyRule, expert_rules, layer_rules, linear_rules

LAYER, BLOCK = "model.layers.{i}.", "blocks.{i}."
BODY = layer_rules("", "", {"model.embed_tokens": "embed_tokens", "model.norm": "norm", "lm_head": "lm_head"})
PROJECTIONS = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o"}
QK_NORMS = {"q_norm": "q_norm", "k_norm": "k_norm"}
SELF, INTO = LAYER + "self_attn.", BLOCK + "attention."
"""What names of an attention's matrices begin with, in a file and here."""
ATTENTION = layer_rules(SELF, INTO, {**PROJECTIONS, **QK_NORMS})
PAIR_PROJECTIONS = layer_rules(SELF, INTO, PROJECTIONS, pairs=("q_proj", "k_proj"))
PAIR_ATTENTION = (*PAIR_PROJECTIONS, *layer_rules(SELF, INTO, QK_NORMS))
GATED = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
MLP = layer_rules(LAYER + "mlp.", BLOCK + "mlp.", GATED)
FUSED_MLP = (
    *linear_rules(LAYER + "mlp.gate_up_proj", BLOCK + "mlp.gate", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "mlp.down_proj", BLOCK + "mlp.down"),
)
EXPERTS = expert_rules(LAYER + "mlp.", GATED)
SHARED_EXPERTS = layer_rules(LAYER + "mlp.shared_experts.", BLOCK + "mlp.shared.", GATED)
CORRECTION = (KeyRule(LAYER + "mlp.gate.e_score_correction_bias", (BLOCK + "mlp.correction_bias",)),)
ATTENTION_NORM = layer_rules(LAYER, BLOCK, {"input_layernorm": "attention_norm"})
PRE_NORMS = (*ATTENTION_NORM, *layer_rules(LAYER, BLOCK, {"post_attention_layernorm": "mlp_norm"}))
SANDWICH_NORMS = layer_rules(LAYER, BLOCK, {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_output_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_output_norm",
})  # fmt: skip
LLAMA_RULES = (*BODY, *ATTENTION, *MLP, *PRE_NORMS)
OLD_BUFFERS = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"model\.rotary_emb\.inv_freq")
"""Old exporters saved the rotary frequencies, which follow from the config."""
