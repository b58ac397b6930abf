"""BERT: post-norm encoder, learned positions, two token types; MiniLM, BGE and CKIP's BERT are of this shape.

Source: Devlin et al. 2018 (arXiv 1810.04805), and the hub's `bert` config.
"""

from __future__ import annotations

from dataclasses import replace
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
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; a masked LM's dense layer has the activation of the blocks."""
    config = read_encoder(reader)
    return with_head(reader, config, masked=config.mlp.activation)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_encoder(config), **write_head(config.head, "Bert")}


HEADS = (
    *when(linear_rules("cls.predictions.transform.dense", "head.dense"), "masked_lm"),
    *when(linear_rules("cls.predictions.transform.LayerNorm", "head.norm"), "masked_lm"),
    *output_rules("cls.predictions."),
    *when(linear_rules("cls.seq_relationship", "head.output"), "next_sentence"),
    *when(linear_rules("classifier", "head.output"), "sequence", "tokens"),
    *when(linear_rules("qa_outputs", "head.output"), "span"),
)
"""All but the pooler."""


def pooler_rules(prefix: str) -> tuple[KeyRule, ...]:
    """The pooler, which is a head's dense layer."""
    return when(linear_rules(prefix + "pooler.dense", "head.dense"), "sequence", "next_sentence")


def harmless_tensors(prefix: str) -> tuple[str, ...]:
    """Of files whose names of the body begin with `prefix`: what another head needs, and buffers."""
    body = (prefix + name for name in (r"embeddings\.position_ids", r"pooler\.dense\.(weight|bias)"))
    return (*body, r"cls\.seq_relationship\..*", r"cls\.predictions\.(decoder\.)?bias")


BERT = Family(
    name="bert",
    architecture="BertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(*bert_rules("bert."), *pooler_rules("bert."), *HEADS),
    prefix="bert.",
    harmless_keys=ENCODER_HARMLESS,
    neutral_values=ENCODER_NEUTRAL,
    harmless_tensors=harmless_tensors("bert."),
)
ERNIE = replace(
    BERT,
    name="ernie",
    architecture="ErnieModel",
    write_config=lambda config: {**write_encoder(config), **write_head(config.head, "Ernie")},
    rules=(*bert_rules("ernie."), *pooler_rules("ernie."), *HEADS),
    prefix="ernie.",
    harmless_keys={**ENCODER_HARMLESS, "task_type_vocab_size": "of a table that use_task_id has"},
    neutral_values={**ENCODER_NEUTRAL, "use_task_id": (False,)},
    harmless_tensors=harmless_tensors("ernie."),
)
"""ERNIE 1 and 2 (Sun et al. 2019, arXiv 1904.09223), which are BERTs."""
