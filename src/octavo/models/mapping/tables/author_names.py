"""Names of tensors in LLaMA's and Mistral's own files."""

from __future__ import annotations

from octavo.models.mapping.keys import expert_rules, layer_rules

LAYER, BLOCK = "layers.{i}.", "blocks.{i}."
EMBEDDING = "tok_embeddings.weight"
GATED = {"w1": "gate", "w3": "up", "w2": "down"}
RULES = (
    *layer_rules("", "", {"tok_embeddings": "embed_tokens", "norm": "norm", "output": "lm_head"}),
    *layer_rules(
        LAYER + "attention.", BLOCK + "attention.", {"wq": "q", "wk": "k", "wv": "v", "wo": "o"}, pairs=("wq", "wk")
    ),
    *layer_rules(LAYER, BLOCK, {"attention_norm": "attention_norm", "ffn_norm": "mlp_norm"}),
    *layer_rules(LAYER + "feed_forward.", BLOCK + "mlp.", GATED),
    *expert_rules(LAYER + "feed_forward.", GATED),
)
HARMLESS_TENSORS = (r"rope\.freqs",)
