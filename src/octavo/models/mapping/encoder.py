"""What hub configs of encoders share: the body as BERT spells it, and the head, which `architectures` names.

A family's row says which heads it has; a checkpoint whose architecture is none of them is read as a bare body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from octavo.errors import FormatError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.tables.encoder_names import BERT_BLOCK, BERT_EMBEDDINGS, BLOCK
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS, HUB_TASKS, TASKS
from octavo.nn.config import (
    AttentionConfig,
    EncoderConfig,
    HeadActivation,
    HeadConfig,
    MlpConfig,
    NormConfig,
    Task,
    TransformerConfig,
)


@dataclass(frozen=True)
class HeadForm:
    """How a family builds the head of a task: the dense layer's activation, None without one, and its norm."""

    activation: HeadActivation | None = None
    norm: bool = False


PLAIN_HEADS: Mapping[Task, HeadForm] = {
    "sequence": HeadForm("tanh"), "next_sentence": HeadForm("tanh"), "tokens": HeadForm(), "span": HeadForm()
}  # fmt: skip
"""Of BERT, ALBERT and RoBERTa, beside a masked LM's."""


def with_head(reader: ConfigReader, config: TransformerConfig, masked: HeadActivation) -> TransformerConfig:
    """The config with the head that its architecture names. masked: the activation of a masked LM's dense layer."""
    assert config.encoder is not None, "not an encoder"
    forms = {**PLAIN_HEADS, "masked_lm": HeadForm(masked, norm=True)}
    return replace(config, encoder=replace(config.encoder, head=read_head(reader, forms, config.vocab_size)))


def read_encoder(
    reader: ConfigReader, *, position_offset: int = 0, embedding_size: int | None = None
) -> TransformerConfig:
    """A hub config in BERT's spelling to switches, without a head."""
    rows = reader.integer("max_position_embeddings", low=position_offset + 1)
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        context_length=rows - position_offset,
        tie_embeddings=reader.flag("tie_word_embeddings", default=True),
        placement="post",
        head_bias=True,
        embedding_norm=True,
        encoder=EncoderConfig(
            position_offset, reader.integer("type_vocab_size", default=2, low=0), embedding_size=embedding_size
        ),
        **read_body(reader, eps=1e-12),
    )


def read_body(reader: ConfigReader, *, eps: float, activation: str = "gelu", qkv_bias: bool = True) -> dict[str, Any]:
    """Fields of a `TransformerConfig` that encoders of text and of images spell alike, in which heads fill the width.

    eps, activation: where the config does not say.
    """
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads", high=65536)
    head_dim = reader.shared_out(width, heads, "num_attention_heads")
    return {
        "hidden_size": width,
        "num_layers": reader.integer("num_hidden_layers", high=4096),
        "norm": NormConfig("layer", reader.number("layer_norm_eps", default=eps)),
        "attention": AttentionConfig(heads, heads, head_dim, qkv_bias=qkv_bias, output_bias=True),
        "mlp": MlpConfig(
            reader.integer("intermediate_size"),
            reader.choice("hidden_act", table=ACTIVATIONS, default=activation),
            gated=False,
            bias=True,
        ),
        "rope": None,
    }


def write_body(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `read_body`."""
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.attention.num_heads,
        "intermediate_size": config.mlp.intermediate_size,
        "hidden_act": HUB_ACTIVATIONS[config.mlp.activation],
        "layer_norm_eps": config.norm.eps,
    }


def read_head(
    reader: ConfigReader, forms: Mapping[Task, HeadForm], vocab_size: int, **switches: Any
) -> HeadConfig | None:
    """The head that a config asks for. switches: of all the family's dense layers and poolings."""
    names = reader.raw.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    task = next((task for suffix, task in TASKS.items() if name.endswith(suffix)), None)
    if task is None or task not in forms:
        return None
    labels = reader.raw.get("id2label")
    if task == "masked_lm":
        count = vocab_size
    elif isinstance(labels, dict) and labels:
        count = len(labels)
    else:
        count = reader.integer("num_labels", default=2)
    if task in ("span", "next_sentence") and count != 2:
        raise FormatError(f"{reader.source} has {count} labels; a head of this kind has 2", param="id2label")
    return HeadConfig(task, count, forms[task].activation, norm=forms[task].norm, **switches)


def write_encoder(config: TransformerConfig) -> dict[str, Any]:
    """Switches to the keys that `read_encoder` reads; the row adds its own."""
    assert config.encoder is not None, "not an encoder"
    return {
        **write_body(config),
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.num_positions,
        "type_vocab_size": config.encoder.token_types,
        "tie_word_embeddings": config.tie_embeddings,
    }


def write_head(head: HeadConfig | None, name: str) -> dict[str, Any]:
    """`architectures` and the number of labels. name: what the family's architectures begin with."""
    architecture = {"architectures": [name + HUB_TASKS[head.task if head else None]]}
    if head is None or head.task == "masked_lm":
        return architecture
    labels = [f"LABEL_{index}" for index in range(head.labels)]
    return {
        **architecture,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def bert_rules(prefix: str) -> tuple[KeyRule, ...]:
    """The body in BERT's names, which RoBERTa shares; it begins with `prefix`."""
    return (
        *layer_rules(prefix + "embeddings.", "", BERT_EMBEDDINGS),
        *layer_rules(prefix + "encoder.layer.{i}.", BLOCK, BERT_BLOCK),
    )


def output_rules(prefix: str) -> tuple[KeyRule, ...]:
    """A masked LM's output; peers keep two biases, and read the decoder's where its weight is not tied."""
    return (
        KeyRule(prefix + "decoder.weight", ("lm_head.weight",)),
        KeyRule(prefix + "bias", ("lm_head.bias",), when=lambda config: config.tie_embeddings),
        KeyRule(prefix + "decoder.bias", ("lm_head.bias",), when=lambda config: not config.tie_embeddings),
    )


def when(rules: tuple[KeyRule, ...], *tasks: Task) -> tuple[KeyRule, ...]:
    """The rules, for heads of these tasks alone."""
    return tuple(
        replace(rule, when=lambda config: config.head is not None and config.head.task in tasks) for rule in rules
    )
