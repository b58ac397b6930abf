"""Key rules that hub files of many families share, in LLaMA's names; a row picks them and adds its own."""

from __future__ import annotations

from octavo.models.mapping.keys import KeyRule, Layout, linear_rules

LAYER = "model.layers.{i}."
BODY = (
    KeyRule("model.embed_tokens.weight", ("embed_tokens.weight",)),
    *linear_rules("model.norm", "norm"),
    *linear_rules("lm_head", "lm_head"),
)
MLP = (
    *linear_rules(LAYER + "mlp.gate_proj", "blocks.{i}.mlp.gate"),
    *linear_rules(LAYER + "mlp.up_proj", "blocks.{i}.mlp.up"),
    *linear_rules(LAYER + "mlp.down_proj", "blocks.{i}.mlp.down"),
)


def expert_rules(block: str, gate: str, up: str, down: str) -> tuple[KeyRule, ...]:
    """A block's router and its experts, each a gated MLP of its own."""
    names = {gate: "gate", up: "up", down: "down"}
    return (
        KeyRule(f"{LAYER}{block}.gate.weight", ("blocks.{i}.mlp.router.weight",)),
        *(
            KeyRule(f"{LAYER}{block}.experts.{{e}}.{stored}.weight", (f"blocks.{{i}}.mlp.experts.{{e}}.{name}.weight",))
            for stored, name in names.items()
        ),
    )


SHARED_EXPERTS = tuple(
    rule
    for name in ("gate", "up", "down")
    for rule in linear_rules(f"{LAYER}mlp.shared_experts.{name}_proj", f"blocks.{{i}}.mlp.shared.{name}")
)
CORRECTION = (KeyRule(LAYER + "mlp.gate.e_score_correction_bias", ("blocks.{i}.mlp.correction_bias",)),)
FUSED_MLP = (
    *linear_rules(LAYER + "mlp.gate_up_proj", "blocks.{i}.mlp.gate", "blocks.{i}.mlp.up"),
    *linear_rules(LAYER + "mlp.down_proj", "blocks.{i}.mlp.down"),
)
SANDWICH_NORMS = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_output_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_output_norm",
}
OLD_BUFFERS = (r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"model\.rotary_emb\.inv_freq")
"""Old exporters saved the rotary frequencies, which follow from the config."""


def attention_rules(
    layout: Layout = "plain", *, output: str = "o_proj", norms: tuple[str, ...] = ("q_norm", "k_norm")
) -> tuple[KeyRule, ...]:
    """q, k, v and o in matrices of their own, and the norms of q and k. layout: of the rows of q and k."""
    stored, canonical = LAYER + "self_attn.", "blocks.{i}.attention."
    named = zip(norms, ("q_norm", "k_norm"), strict=False)
    return (
        *linear_rules(stored + "q_proj", canonical + "q", layout=layout),
        *linear_rules(stored + "k_proj", canonical + "k", layout=layout),
        *linear_rules(stored + "v_proj", canonical + "v"),
        *linear_rules(stored + output, canonical + "o"),
        *(rule for norm, name in named for rule in linear_rules(stored + norm, canonical + name)),
    )


def norm_rules(names: dict[str, str]) -> tuple[KeyRule, ...]:
    """The norms of a block: stored name -> canonical name."""
    pairs = [linear_rules(LAYER + stored, "blocks.{i}." + canonical) for stored, canonical in names.items()]
    return tuple(rule for pair in pairs for rule in pair)


PRE_NORMS = norm_rules({"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"})
EXPERTS = expert_rules("mlp", "gate_proj", "up_proj", "down_proj")
LLAMA_RULES = (*BODY, *attention_rules(), *MLP, *PRE_NORMS)
