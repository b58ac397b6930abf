"""DeBERTa-v3 (its model_type is `deberta-v2`): BERT's body without positions, whose attention sees content and distance
apart.

Those of version 2 with a convolution, or with positions of their own, are refused. Source: He et al. 2021
(arXiv 2111.09543), and the hub's `deberta-v2` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.errors import UnsupportedError
from octavo.models.families import bert
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.encoder import HeadForm, read_encoder, read_head, when, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.models.mapping.tables.encoder_names import BERT_BLOCK, BLOCK
from octavo.nn.config import DisentangledConfig, Task, TransformerConfig

FORM = {
    "relative_attention": True, "share_att_key": True, "position_biased_input": False, "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
}  # fmt: skip
"""What makes a version 3 of it, each of which the class leaves otherwise."""
FORMS: dict[Task, HeadForm] = {"sequence": HeadForm("gelu"), "tokens": HeadForm(), "span": HeadForm()}


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    for key, value in FORM.items():
        found = reader.take(key, 0 if key == "type_vocab_size" else None)
        if found != value:
            raise UnsupportedError(
                f"{reader.source} has {key} {found!r}; only {value!r}, DeBERTa-v3's, is done here", param=key
            )
    kinds = reader.take("pos_att_type", [])
    if kinds not in ("p2c|c2p", "c2p|p2c", ["p2c", "c2p"], ["c2p", "p2c"]):
        raise UnsupportedError(
            f"{reader.source} has pos_att_type {kinds!r}; only p2c|c2p is done here", param="pos_att_type"
        )
    reader.raw = {"layer_norm_eps": 1e-7, **reader.raw, "type_vocab_size": 1}
    config = read_encoder(reader)
    furthest = reader.integer("max_relative_positions", default=-1, low=-1)
    furthest = config.context_length if furthest < 1 else furthest
    apart = DisentangledConfig(reader.integer("position_buckets", low=2), furthest)
    config = with_attention(config, disentangled=apart, scale=(3 * config.attention.head_dim) ** -0.5)
    assert config.encoder is not None, "an encoder"
    head = read_head(reader, {**FORMS, "masked_lm": HeadForm(config.mlp.activation, norm=True)}, config.vocab_size)
    return replace(config, encoder=replace(config.encoder, head=head, token_types=0))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    apart = config.attention.disentangled
    assert apart is not None, "content and distance are apart"
    own = {"position_buckets": apart.buckets, "max_relative_positions": apart.max_distance}
    return {
        **write_encoder(config),
        **write_head(config.head, "DebertaV2"),
        **FORM,
        **own,
        "pos_att_type": ["p2c", "c2p"],
    }


LAYERS = {(name + "_proj" if ".self." in name else name): ours for name, ours in BERT_BLOCK.items()}
DEBERTA_V2 = Family(
    name="deberta-v2",
    architecture="DebertaV2Model",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *layer_rules("deberta.embeddings.", "", {"word_embeddings": "embed_tokens", "LayerNorm": "embed_norm"}),
        KeyRule("deberta.encoder.rel_embeddings.weight", ("distances.weight",)),
        *linear_rules("deberta.encoder.LayerNorm", "distances.norm"),
        *layer_rules("deberta.encoder.layer.{i}.", BLOCK, LAYERS),
        *when(linear_rules("pooler.dense", "head.dense"), "sequence"),
        *(rule for rule in bert.HEADS if not rule.stored.startswith("cls.seq")),
        *when(linear_rules("lm_predictions.lm_head.dense", "head.dense"), "masked_lm"),
        *when(linear_rules("lm_predictions.lm_head.LayerNorm", "head.norm"), "masked_lm"),
        KeyRule("lm_predictions.lm_head.bias", ("lm_head.bias",)),
    ),
    prefix="deberta.",
    harmless_keys={
        **ENCODER_HARMLESS,
        **dict.fromkeys(("pooler_dropout", "cls_dropout"), "dropout acts in training only"),
        "pooler_hidden_size": "the pooler's own shape says it",
        **dict.fromkeys(("legacy", "summary_type"), "of heads that are not here"),
        "attention_head_size": "heads fill the width",
    },
    neutral_values={
        **{key: ok for key, ok in ENCODER_NEUTRAL.items() if key != "position_embedding_type"},
        "conv_kernel_size": (0,), "embedding_size": (), "pooler_hidden_act": ("gelu",),
    },
    harmless_tensors=(
        r"deberta\.embeddings\.position_ids", r"cls\.predictions\.(decoder\.)?bias",
        r"cls\.predictions\.transform\.(dense|LayerNorm)\.(weight|bias)", r"(lm|mask)_predictions\..*",
        r"pooler\.dense\..*",
    ),
)  # fmt: skip
