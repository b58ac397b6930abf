"""ELECTRA: BERT's body over narrower embeddings; published discriminators are read as the bare body.

Source: Clark et al. 2020 (arXiv 2003.10555), and the hub's `electra` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import HeadForm, bert_rules, read_encoder, read_head, when, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import Task, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    size = reader.integer("embedding_size", default=128)
    config = read_encoder(reader, embedding_size=None if size == reader.raw.get("hidden_size") else size)
    assert config.encoder is not None
    forms: dict[Task, HeadForm] = {"sequence": HeadForm("gelu"), "tokens": HeadForm(), "span": HeadForm()}
    generator = "ElectraForMaskedLM" in (reader.raw.get("architectures") or ())
    head = read_head(
        reader, {**forms, "masked_lm": HeadForm("gelu", norm=True)} if generator else forms, config.vocab_size
    )
    return replace(config, encoder=replace(config.encoder, head=head))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_encoder(config), **write_head(config.head, "Electra"), "embedding_size": config.embedding_size}


ELECTRA = Family(
    name="electra",
    architecture="ElectraModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *bert_rules("electra."),
        *linear_rules("electra.embeddings_project", "embed_projection"),
        *when(linear_rules("generator_predictions.dense", "head.dense"), "masked_lm"),
        *when(linear_rules("generator_predictions.LayerNorm", "head.norm"), "masked_lm"),
        *linear_rules("generator_lm_head", "lm_head"),
        *when(linear_rules("classifier.dense", "head.dense"), "sequence"),
        *when(linear_rules("classifier.out_proj", "head.output"), "sequence"),
        *when(linear_rules("classifier", "head.output"), "tokens"),
        *when(linear_rules("qa_outputs", "head.output"), "span"),
    ),
    prefix="electra.",
    harmless_keys={
        **ENCODER_HARMLESS,
        **dict.fromkeys(
            ("summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"), "of multiple choice"
        ),
    },
    neutral_values=ENCODER_NEUTRAL,
    harmless_tensors=(
        r"electra\.embeddings\.position_ids",
        r"discriminator_predictions\..*",
        r"generator_(predictions|lm_head)\..*",
    ),
)
