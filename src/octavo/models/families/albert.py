"""ALBERT: one block applied again and again, and narrow embeddings that a matrix widens.

Source: Lan et al. 2019 (arXiv 1909.11942), and the hub's `albert` config; CKIP's ALBERT is of this shape.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import output_rules, read_encoder, when, with_head, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_encoder(reader, embedding_size=reader.integer("embedding_size", default=128))
    assert config.encoder is not None
    config = replace(config, encoder=replace(config.encoder, shared_block=True))
    return with_head(reader, config, masked=config.mlp.activation)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        **write_encoder(config),
        **write_head(config.head, "Albert"),
        "embedding_size": config.embedding_size,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    }


EMBEDDINGS, LAYER = "albert.embeddings.", "albert.encoder.albert_layer_groups.0.albert_layers.0."
ALBERT = Family(
    name="albert",
    architecture="AlbertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        KeyRule(EMBEDDINGS + "word_embeddings.weight", ("embed_tokens.weight",)),
        KeyRule(EMBEDDINGS + "position_embeddings.weight", ("embed_positions.weight",)),
        KeyRule(EMBEDDINGS + "token_type_embeddings.weight", ("embed_types.weight",)),
        *linear_rules(EMBEDDINGS + "LayerNorm", "embed_norm"),
        *linear_rules("albert.encoder.embedding_hidden_mapping_in", "embed_projection"),
        *linear_rules(LAYER + "attention.query", "blocks.0.attention.q"),
        *linear_rules(LAYER + "attention.key", "blocks.0.attention.k"),
        *linear_rules(LAYER + "attention.value", "blocks.0.attention.v"),
        *linear_rules(LAYER + "attention.dense", "blocks.0.attention.o"),
        *linear_rules(LAYER + "attention.LayerNorm", "blocks.0.attention_output_norm"),
        *linear_rules(LAYER + "ffn", "blocks.0.mlp.up"),
        *linear_rules(LAYER + "ffn_output", "blocks.0.mlp.down"),
        *linear_rules(LAYER + "full_layer_layer_norm", "blocks.0.mlp_output_norm"),
        *when(linear_rules("predictions.dense", "head.dense"), "masked_lm"),
        *when(linear_rules("predictions.LayerNorm", "head.norm"), "masked_lm"),
        *output_rules("predictions."),
        *when(linear_rules("albert.pooler", "head.dense"), "sequence"),
        *when(linear_rules("classifier", "head.output"), "sequence", "tokens"),
        *when(linear_rules("qa_outputs", "head.output"), "span"),
    ),
    prefix="albert.",
    harmless_keys={**ENCODER_HARMLESS, "down_scale_factor": "peers do not read it", "net_structure_type": "as before"},
    neutral_values={
        **ENCODER_NEUTRAL, "num_hidden_groups": (1,), "inner_group_num": (1,), "gap_size": (0,),
        "num_memory_blocks": (0,),
    },
    harmless_tensors=(
        r"albert\.embeddings\.position_ids", r"albert\.pooler\.(weight|bias)", r"sop_classifier\..*",
        r"predictions\.(decoder\.)?bias",
    ),
)  # fmt: skip
