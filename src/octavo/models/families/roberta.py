"""RoBERTa, XLM-RoBERTa, CamemBERT and data2vec: BERT's body, positions from after the padding token's id.

BGE-M3 and the BGE rerankers are of this shape. Source: Liu et al. 2019 (arXiv 1907.11692), Conneau et al. 2019
(arXiv 1911.02116), Baevski et al. 2022 (arXiv 2202.03555), and the hub's configs.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """A hub config to switches; positions count from pad_token_id + 1."""
    config = read_encoder(reader, position_offset=reader.integer("pad_token_id", default=1, low=0) + 1)
    return with_head(reader, config, masked="gelu")


def writer(name: str) -> Callable[[TransformerConfig], dict[str, Any]]:
    """`write_config` of a family whose architectures begin with `name`."""

    def write_config(config: TransformerConfig) -> dict[str, Any]:
        """Switches to a hub config that `read_config` reads to the same switches."""
        assert config.encoder is not None
        padding = {"pad_token_id": config.encoder.position_offset - 1}
        return {**write_encoder(config), **write_head(config.head, name), **padding}

    return write_config


HEADS = (
    *when(linear_rules("lm_head.dense", "head.dense"), "masked_lm"),
    *when(linear_rules("lm_head.layer_norm", "head.norm"), "masked_lm"),
    *output_rules("lm_head."),
    *when(linear_rules("classifier.dense", "head.dense"), "sequence"),
    *when(linear_rules("classifier.out_proj", "head.output"), "sequence"),
    *when(linear_rules("classifier", "head.output"), "tokens"),
    *when(linear_rules("qa_outputs", "head.output"), "span"),
)
HARMLESS_TENSORS = (r"embeddings\.position_ids", r"pooler\.dense\.(weight|bias)")
"""Of the body."""


def row(name: str, classes: str, prefix: str = "roberta.") -> Family:
    """classes: what its architectures begin with. prefix: what names of the body do."""
    return Family(
        name=name,
        architecture=f"{classes}Model",
        read_config=read_config,
        write_config=writer(classes),
        rules=(*bert_rules(prefix), *HEADS),
        prefix=prefix,
        harmless_keys=ENCODER_HARMLESS,
        neutral_values=ENCODER_NEUTRAL,
        harmless_tensors=(*(prefix + name for name in HARMLESS_TENSORS), r"lm_head\.(decoder\.)?bias"),
    )


ROBERTA = row("roberta", "Roberta")
XLM_ROBERTA = row("xlm-roberta", "XLMRoberta")
CAMEMBERT = row("camembert", "Camembert")
DATA2VEC = row("data2vec-text", "Data2VecText", "data2vec_text.")
