"""RoFormer: BERT with rotary positions, whose rows hub files have in pair order, in place of a table.

Source: Su et al. 2021 (arXiv 2104.09864), and the hub's `roformer` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import bert
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import HeadForm, read_encoder, read_head, when, write_encoder, write_head
from octavo.models.mapping.keys import layer_rules, linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_NEUTRAL
from octavo.models.mapping.tables.encoder_names import BERT_BLOCK, BERT_EMBEDDINGS, BLOCK
from octavo.nn.config import RopeConfig, Task, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    width = reader.integer("hidden_size")
    size = reader.integer("embedding_size", default=width)
    config = read_encoder(reader, embedding_size=None if size == width else size)
    assert config.encoder is not None, "an encoder"
    activation = config.mlp.activation
    forms: dict[Task, HeadForm] = {
        "masked_lm": HeadForm(activation, norm=True), "sequence": HeadForm(activation), "tokens": HeadForm(),
        "span": HeadForm(),
    }  # fmt: skip
    encoder = replace(config.encoder, head=read_head(reader, forms, config.vocab_size))
    rope = RopeConfig(10000.0, config.attention.head_dim)  # no config says the base
    return replace(config, rope=rope, encoder=encoder)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_encoder(config), **write_head(config.head, "RoFormer"), "embedding_size": config.embedding_size}


ROFORMER = replace(
    bert.BERT,
    name="roformer",
    architecture="RoFormerModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *layer_rules("roformer.embeddings.", "", BERT_EMBEDDINGS),
        *linear_rules("roformer.embeddings_project", "embed_projection"),
        *layer_rules("roformer.encoder.layer.{i}.", BLOCK, BERT_BLOCK,
                     pairs=("attention.self.query", "attention.self.key")),
        *when(linear_rules("classifier.dense", "head.dense"), "sequence"),
        *when(linear_rules("classifier.out_proj", "head.output"), "sequence"),
        *(rule for rule in bert.HEADS if not rule.stored.startswith(("classifier", "cls.seq"))),
        *when(linear_rules("classifier", "head.output"), "tokens"),
    ),
    prefix="roformer.",
    neutral_values={**ENCODER_NEUTRAL, "rotary_value": (False,)},
    harmless_tensors=(r"roformer\.encoder\.embed_positions\.weight", r"cls\.predictions\.(decoder\.)?bias"),
)  # fmt: skip
