"""Nomic BERT: BERT with rotary positions and gated MLPs, no biases in its layers.

Source: Nussbaum et al. 2024 (arXiv 2402.01613), and the hub's `nomic_bert` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_biases
from octavo.models.mapping.encoder import output_rules, read_encoder, when, with_head, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import layer_rules, linear_rules
from octavo.models.mapping.rope import RopeSpelling, read_rope, write_rope
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    if reader.has("n_embd"):
        reader.raw |= {ours: reader.take(theirs, None) for theirs, ours in OLD_KEYS.items()}
        reader.choice("activation_function", table={"swiglu": None})
    reader.raw.setdefault("hidden_act", "silu")
    config = read_encoder(reader)
    head_dim = config.attention.head_dim
    reader.neutral({"head_dim": (head_dim,)})
    rope = read_rope(reader, head_dim, config.context_length, RopeSpelling(theta=1000.0))
    config = replace(
        with_biases(config, qkv=False, output=False),
        rope=rope,
        mlp=replace(config.mlp, gated=True, bias=False),
    )
    return with_head(reader, config, masked=config.mlp.activation)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.rope is not None, "a Nomic BERT turns"
    rope = write_rope(config.rope, config.attention.head_dim, config.context_length)
    return {**write_encoder(config), **write_head(config.head, "NomicBert"), **rope, "pad_token_id": PADDING}


PADDING = 0
"""The id in BERT's vocabulary, which these models have; peers take no null."""
OLD_KEYS = {
    "n_embd": "hidden_size", "n_inner": "intermediate_size", "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads", "n_positions": "max_position_embeddings", "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
}  # fmt: skip
"""What the authors' own files call BERT's keys."""
OLD_FORM: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("causal", "parallel_block", "parallel_block_tied_norm", "prenorm", "use_rms_norm"), (False,)),
    **dict.fromkeys(("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "rotary_emb_interleaved"), (False,)),
    "scale_attn_by_inverse_layer_idx": (False,), "scale_attn_weights": (True,), "rotary_emb_fraction": (1, 1.0),
    "rotary_emb_scale_base": (), "rotary_scaling_factor": (),
}  # fmt: skip
"""What those say beside, with the values that make this graph."""
OLD_HARMLESS = {
    **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop", "mlp_dropout"), "dropout acts in training only"),
    **dict.fromkeys(("summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
                     "summary_use_proj", "expert_choice_router", "moe_every_n_layers"), "of parts that are not here"),
    **dict.fromkeys(("dense_seq_output", "fused_bias_fc", "fused_dropout_add_ln", "last_layer_subset",
                     "reorder_and_upcast_attn", "use_flash_attn", "use_xentropy"), "how it runs"),
    "max_trained_positions": "of the scaling that rotary_scaling_factor has",
    "pad_vocab_size_multiple": "vocab_size is a multiple of it already",
}  # fmt: skip
EMBEDDINGS = {
    "embeddings.word_embeddings": "embed_tokens", "embeddings.token_type_embeddings": "embed_types",
    "emb_ln": "embed_norm",
}  # fmt: skip
LAYERS = {
    "attn.out_proj": "attention.o", "mlp.fc12": "mlp.gate", "mlp.fc11": "mlp.up", "mlp.fc2": "mlp.down",
    "norm1": "attention_output_norm", "norm2": "mlp_output_norm",
}  # fmt: skip
NOMIC_BERT = Family(
    name="nomic_bert",
    architecture="NomicBertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *layer_rules("nomic_bert.", "", EMBEDDINGS),
        *linear_rules("nomic_bert.encoder.layers.{i}.attn.Wqkv", *QKV),
        *layer_rules("nomic_bert.encoder.layers.{i}.", "blocks.{i}.", LAYERS),
        *when(linear_rules("cls.predictions.transform.dense", "head.dense"), "masked_lm"),
        *when(linear_rules("cls.predictions.transform.layer_norm", "head.norm"), "masked_lm"),
        *output_rules("cls.predictions."),
        *when(linear_rules("nomic_bert.pooler.dense", "head.dense"), "sequence"),
        *when(linear_rules("classifier", "head.output"), "sequence", "tokens"),
        *when(linear_rules("qa_outputs", "head.output"), "span"),
    ),
    prefix="nomic_bert.",
    harmless_keys={**ENCODER_HARMLESS, **OLD_HARMLESS},
    neutral_values={**ENCODER_NEUTRAL, **OLD_FORM},
    harmless_tensors=(r"nomic_bert\.pooler\.dense\.(weight|bias)", r"cls\.predictions\.(decoder\.)?bias"),
)
