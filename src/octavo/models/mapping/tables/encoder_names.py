"""Names of tensors of encoders in hub files: BERT's, which RoBERTa shares, and CLIP's, which SigLIP and Idefics do."""

from __future__ import annotations

BLOCK = "blocks.{i}."
BERT_EMBEDDINGS = {
    "word_embeddings": "embed_tokens",
    "position_embeddings": "embed_positions",
    "token_type_embeddings": "embed_types",
    "LayerNorm": "embed_norm",
}
BERT_BLOCK = {
    "attention.self.query": "attention.q",
    "attention.self.key": "attention.k",
    "attention.self.value": "attention.v",
    "attention.output.dense": "attention.o",
    "attention.output.LayerNorm": "attention_output_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_output_norm",
}
CLIP_ATTENTION = {
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.out_proj": "attention.o",
}
CLIP_REST = {
    "layer_norm1": "attention_norm",
    "layer_norm2": "mlp_norm",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
"""A block's norms and MLP, which BLIP-2 names the same."""
