"""Names of tensors that GGUF files of most architectures share; a row picks them and adds its own."""

from __future__ import annotations

from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules

LAYER, BLOCK = "blk.{i}.", "blocks.{i}."
BODY = layer_rules("", "", {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"})
PROJECTIONS = {"q": "q", "k": "k", "v": "v", "output": "o"}
QK_NORMS = {"q_norm": "q_norm", "k_norm": "k_norm"}
ATTENTION = layer_rules(LAYER + "attn_", BLOCK + "attention.", {**PROJECTIONS, **QK_NORMS})
PAIR_PROJECTIONS = layer_rules(LAYER + "attn_", BLOCK + "attention.", PROJECTIONS, pairs=("q", "k"))
PAIR_ATTENTION = (*PAIR_PROJECTIONS, *layer_rules(LAYER + "attn_", BLOCK + "attention.", QK_NORMS))
QKV = (BLOCK + "attention.q", BLOCK + "attention.k", BLOCK + "attention.v")
FUSED_ATTENTION = (
    *linear_rules(LAYER + "attn_qkv", *QKV),
    *linear_rules(LAYER + "attn_output", BLOCK + "attention.o"),
)
MLP = layer_rules(LAYER + "ffn_", BLOCK + "mlp.", {"gate": "gate", "up": "up", "down": "down"})
FUSED_MLP = (
    *linear_rules(LAYER + "ffn_up", BLOCK + "mlp.gate", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "ffn_down", BLOCK + "mlp.down"),
)
EXPERTS = (
    *linear_rules(LAYER + "ffn_gate_inp", BLOCK + "mlp.router"),
    *(
        KeyRule(f"{LAYER}ffn_{name}_exps.{leaf}", (f"{BLOCK}mlp.experts.{{e}}.{name}.{leaf}",), "experts")
        for name in ("gate", "up", "down")
        for leaf in ("weight", "bias")
    ),
    *layer_rules(LAYER + "ffn_", BLOCK + "mlp.shared.", {"gate_shexp": "gate", "up_shexp": "up", "down_shexp": "down"}),
    KeyRule(LAYER + "exp_probs_b.bias", (BLOCK + "mlp.correction_bias",)),
    KeyRule(LAYER + "ffn_gate_inp_shexp.weight", (BLOCK + "mlp.shared_gate.weight",), "bare_row"),
)
PRE_NORMS = layer_rules(LAYER, BLOCK, {"attn_norm": "attention_norm", "ffn_norm": "mlp_norm"})
LATE_NORMS = layer_rules(LAYER, BLOCK, {"attn_norm": "attention_norm", "post_attention_norm": "mlp_norm"})
"""Norms before each sublayer in files that call the second after what it follows."""
OUTPUT_NORMS = layer_rules(
    LAYER, BLOCK, {"post_attention_norm": "attention_output_norm", "post_ffw_norm": "mlp_output_norm"}
)
RULES = (*BODY, *ATTENTION, *MLP, *PRE_NORMS)
LATE_RULES = (*BODY, *ATTENTION, *MLP, *LATE_NORMS)
PAIR_RULES = (*BODY, *PAIR_ATTENTION, *MLP, *PRE_NORMS)
FUSED_RULES = (*BODY, *FUSED_ATTENTION, *MLP, *PRE_NORMS)
