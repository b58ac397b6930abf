"""DistilBERT: BERT's body without kinds of tokens, under names of its own.

Source: Sanh et al. 2019 (arXiv 1910.01108), and the hub's `distilbert` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import HeadForm, read_encoder, read_head, when, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import layer_rules, linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import Task, TransformerConfig

NAMES = {
    "dim": "hidden_size", "hidden_dim": "intermediate_size", "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads", "activation": "hidden_act",
}  # fmt: skip
"""What its configs call BERT's keys."""


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    reader.raw |= {ours: reader.take(theirs, None) for theirs, ours in NAMES.items()}
    config = read_encoder(reader)
    assert config.encoder is not None
    forms: dict[Task, HeadForm] = {
        "masked_lm": HeadForm(config.mlp.activation, norm=True), "sequence": HeadForm("relu"), "tokens": HeadForm(),
        "span": HeadForm(),
    }  # fmt: skip
    head = read_head(reader, forms, config.vocab_size)
    return replace(config, encoder=replace(config.encoder, token_types=0, head=head))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = write_encoder(config)
    del written["type_vocab_size"], written["layer_norm_eps"]
    return {
        **{theirs: written.pop(ours) for theirs, ours in NAMES.items()},
        **written,
        **write_head(config.head, "DistilBert"),
    }


EMBEDDINGS = {"word_embeddings": "embed_tokens", "position_embeddings": "embed_positions", "LayerNorm": "embed_norm"}
LAYERS = {
    "attention.q_lin": "attention.q", "attention.k_lin": "attention.k", "attention.v_lin": "attention.v",
    "attention.out_lin": "attention.o", "sa_layer_norm": "attention_output_norm", "ffn.lin1": "mlp.up",
    "ffn.lin2": "mlp.down", "output_layer_norm": "mlp_output_norm",
}  # fmt: skip
DISTILBERT = Family(
    name="distilbert",
    architecture="DistilBertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *layer_rules("distilbert.embeddings.", "", EMBEDDINGS),
        *layer_rules("distilbert.transformer.layer.{i}.", "blocks.{i}.", LAYERS),
        *when(linear_rules("vocab_transform", "head.dense"), "masked_lm"),
        *when(linear_rules("vocab_layer_norm", "head.norm"), "masked_lm"),
        *linear_rules("vocab_projector", "lm_head"),
        *when(linear_rules("pre_classifier", "head.dense"), "sequence"),
        *when(linear_rules("classifier", "head.output"), "sequence", "tokens"),
        *when(linear_rules("qa_outputs", "head.output"), "span"),
    ),
    prefix="distilbert.",
    harmless_keys={
        **ENCODER_HARMLESS,
        **dict.fromkeys(("dropout", "qa_dropout", "seq_classif_dropout", "output_past"), "training only"),
        "sinusoidal_pos_embds": "the table of positions holds them",
        "tie_weights_": "peers do not read it",
    },
    neutral_values=ENCODER_NEUTRAL,
    harmless_tensors=(r"vocab_(transform|layer_norm|projector)\..*",),
)
