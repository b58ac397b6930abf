"""BERT: post-norm encoder, learned positions, two token types; MiniLM, BGE and CKIP's BERT are of this shape.

Source: Devlin et al. 2018 (arXiv 1810.04805), and the hub's `bert` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import (
    bert_rules,
    output_rules,
    read_encoder,
    when,
    with_head,
    write_encoder,
    write_head,
)
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; a masked LM's dense layer has the activation of the blocks."""
    config = read_encoder(reader)
    return with_head(reader, config, masked=config.mlp.activation)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_encoder(config), **write_head(config.head, "Bert")}


BERT = Family(
    name="bert",
    architecture="BertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *bert_rules("bert."),
        *when(linear_rules("cls.predictions.transform.dense", "head.dense"), "masked_lm"),
        *when(linear_rules("cls.predictions.transform.LayerNorm", "head.norm"), "masked_lm"),
        *output_rules("cls.predictions."),
        *when(linear_rules("bert.pooler.dense", "head.dense"), "sequence", "next_sentence"),
        *when(linear_rules("cls.seq_relationship", "head.output"), "next_sentence"),
        *when(linear_rules("classifier", "head.output"), "sequence", "tokens"),
        *when(linear_rules("qa_outputs", "head.output"), "span"),
    ),
    prefix="bert.",
    harmless_keys=ENCODER_HARMLESS,
    neutral_values=ENCODER_NEUTRAL,
    harmless_tensors=(
        r"bert\.embeddings\.position_ids", r"bert\.pooler\.dense\.(weight|bias)", r"cls\.seq_relationship\..*",
        r"cls\.predictions\.(decoder\.)?bias",
    ),
)  # fmt: skip
