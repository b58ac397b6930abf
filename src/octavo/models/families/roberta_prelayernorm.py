"""RoBERTa with norms before the sublayers: fairseq's `roberta-prelayernorm`, and XLM-RoBERTa XL and XXL.

Source: Ott et al. 2019 (arXiv 1904.01038), Goyal et al. 2021 (arXiv 2105.00572), and the hub's configs.
"""

from __future__ import annotations

from dataclasses import replace

from octavo.models.families import roberta
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.tables.encoder_names import BERT_BLOCK, BERT_EMBEDDINGS, BLOCK
from octavo.nn.config import TransformerConfig

MATRICES = {name: ours for name, ours in BERT_BLOCK.items() if not ours.endswith("norm")}


def pre_norm_rules(prefix: str, attention_norm: str, mlp_norm: str, final_norm: str) -> tuple[KeyRule, ...]:
    """The body in BERT's names, with norms before the sublayers, and one at the end, under names of their own."""
    block = {**MATRICES, attention_norm: "attention_norm", mlp_norm: "mlp_norm"}
    return (
        *layer_rules(prefix + "embeddings.", "", BERT_EMBEDDINGS),
        *layer_rules(prefix + "encoder.layer.{i}.", BLOCK, block),
        *linear_rules(prefix + final_norm, "norm"),
    )


def pre_norm(config: TransformerConfig, *, embedding_norm: bool) -> TransformerConfig:
    """The config with its norms before the sublayers. embedding_norm: whether the embeddings have one, too."""
    return replace(config, placement="pre", embedding_norm=embedding_norm)


def _read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return pre_norm(roberta.read_config(reader), embedding_norm=True)


def _read_xl(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return pre_norm(roberta.read_config(reader), embedding_norm=False)


PREFIX = "roberta_prelayernorm."
ROBERTA_PRELAYERNORM = replace(
    roberta.row("roberta-prelayernorm", "RobertaPreLayerNorm", PREFIX),
    read_config=_read_config,
    rules=(
        *pre_norm_rules(PREFIX, "attention.LayerNorm", "intermediate.LayerNorm", "LayerNorm"),
        *roberta.HEADS,
    ),
)
XLM_ROBERTA_XL = replace(
    roberta.row("xlm-roberta-xl", "XLMRobertaXL"),
    read_config=_read_xl,
    rules=(
        *pre_norm_rules("roberta.", "attention.self_attn_layer_norm", "LayerNorm", "encoder.LayerNorm"),
        *roberta.HEADS,
    ),
)
