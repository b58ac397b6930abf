"""Megatron's BERT: BERT with norms before the sublayers, one at the end, and none of the embeddings.

Source: Shoeybi et al. 2019 (arXiv 1909.08053), and the hub's `megatron-bert` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import bert
from octavo.models.families.roberta_prelayernorm import pre_norm, pre_norm_rules
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import write_encoder, write_head
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return pre_norm(bert.read_config(reader), embedding_norm=False)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_encoder(config), **write_head(config.head, "MegatronBert")}


MEGATRON_BERT = replace(
    bert.BERT,
    name="megatron-bert",
    architecture="MegatronBertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *pre_norm_rules("bert.", "attention.ln", "ln", "encoder.ln"),
        *bert.pooler_rules("bert."),
        *bert.HEADS,
    ),
)
