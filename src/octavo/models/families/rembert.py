"""RemBERT: BERT's body over narrower embeddings; its masked LM, whose output is wider, is read as the bare body.

Source: Chung et al. 2020 (arXiv 2010.12821), and the hub's `rembert` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import bert
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import PLAIN_HEADS, bert_rules, read_encoder, read_head, write_encoder, write_head
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_encoder(reader, embedding_size=reader.integer("input_embedding_size", default=256))
    assert config.encoder is not None, "an encoder"
    head = read_head(reader, PLAIN_HEADS, config.vocab_size)
    return replace(config, encoder=replace(config.encoder, head=head))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    head = write_head(config.head, "RemBert")
    return {**write_encoder(config), **head, "input_embedding_size": config.embedding_size}


REMBERT = replace(
    bert.BERT,
    name="rembert",
    architecture="RemBertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *bert_rules("rembert."),
        *linear_rules("rembert.encoder.embedding_hidden_mapping_in", "embed_projection"),
        *bert.pooler_rules("rembert."),
        *(rule for rule in bert.HEADS if not rule.stored.startswith("cls.")),
    ),
    prefix="rembert.",
    harmless_keys={**ENCODER_HARMLESS, "output_embedding_size": "of the masked LM"},
    harmless_tensors=(
        *bert.harmless_tensors("rembert."), r"cls\.predictions\.(dense|decoder|LayerNorm)\.(weight|bias)",
    ),
)  # fmt: skip
