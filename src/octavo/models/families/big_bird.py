"""BigBird where every position sees all (`original_full`): BERT with a scale of its embeddings.

Its sparse attention is refused; the published models see all of texts up to 704 tokens, whatever their config says.
Source: Zaheer et al. 2020 (arXiv 2007.14062), and the hub's `big_bird` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import bert
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.encoder import HeadForm, bert_rules, read_encoder, read_head, when, write_encoder, write_head
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import Task, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_encoder(reader)
    assert config.encoder is not None, "an encoder"
    activation = config.mlp.activation
    forms: dict[Task, HeadForm] = {
        "masked_lm": HeadForm(activation, norm=True), "sequence": HeadForm(activation), "tokens": HeadForm(),
    }  # fmt: skip
    scale = config.hidden_size**0.5 if reader.flag("rescale_embeddings", default=False) else 1.0
    head = read_head(reader, forms, config.vocab_size)
    config = replace(config, embedding_scale=scale, encoder=replace(config.encoder, head=head))
    return with_attention(config, qkv_bias=reader.flag("use_bias", default=True))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    own = {"use_bias": config.attention.qkv_bias, "rescale_embeddings": config.embedding_scale != 1}
    head = write_head(config.head, "BigBird")
    return {**write_encoder(config), **head, **own, "attention_type": "original_full"}


BIG_BIRD = replace(
    bert.BERT,
    name="big_bird",
    architecture="BigBirdModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *bert_rules("bert."),
        *(rule for rule in bert.HEADS if not rule.stored.startswith(("classifier", "cls.seq", "qa"))),
        *when(linear_rules("classifier.dense", "head.dense"), "sequence"),
        *when(linear_rules("classifier.out_proj", "head.output"), "sequence"),
        *when(linear_rules("classifier", "head.output"), "tokens"),
    ),
    harmless_keys={
        **ENCODER_HARMLESS,
        **dict.fromkeys(("block_size", "num_random_blocks"), "of the sparse attention"),
        "sep_token_id": "the tokenizer's business",
    },
    neutral_values={**ENCODER_NEUTRAL, "attention_type": ("original_full",)},
    harmless_tensors=(
        r"bert\.embeddings\.position_ids", r"bert\.pooler\.(weight|bias)", r"cls\.seq_relationship\..*",
        r"cls\.predictions\.(decoder\.)?bias",
    ),
)  # fmt: skip
