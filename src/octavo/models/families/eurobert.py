"""EuroBERT: LLaMA's blocks that see both sides.

Source: Boizard et al. 2025 (arXiv 2503.05500), and the hub's `eurobert` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from octavo.models.families import llama
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import HeadForm, read_head, when, write_head
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS
from octavo.nn.config import EncoderConfig, Task, TransformerConfig

FORMS: dict[Task, HeadForm] = {"masked_lm": HeadForm(), "sequence": HeadForm("gelu"), "tokens": HeadForm()}
POOLINGS: dict[str, Literal["first", "mean", "late"]] = {"bos": "first", "mean": "mean", "late": "late"}


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = llama.read_config(reader)
    pooling = reader.choice("classifier_pooling", table=POOLINGS, default="late")
    head = read_head(reader, FORMS, config.vocab_size, pooling=pooling)
    biased = bool(config.mlp.bias) and head is not None and head.task == "masked_lm"
    return replace(config, encoder=EncoderConfig(head=head), head_bias=biased)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    pooling = {ours: name for name, ours in POOLINGS.items()}
    written = {**llama.write_config(config), **write_head(config.head, "EuroBert")}
    return written if config.head is None else {**written, "classifier_pooling": pooling[config.head.pooling]}


EUROBERT = replace(
    llama.LLAMA,
    name="eurobert",
    architecture="EuroBertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *llama.LLAMA.rules,
        *when(linear_rules("dense", "head.dense"), "sequence"),
        *when(linear_rules("classifier", "head.output"), "sequence", "tokens"),
    ),
    gguf=None,
    harmless_keys={
        **llama.LLAMA.harmless_keys, **ENCODER_HARMLESS, "mask_token_id": "the tokenizer's business"
    },
    harmless_tensors=(*llama.LLAMA.harmless_tensors, r"lm_head\..*"),
)  # fmt: skip
