"""XLM's masked language models and FlauBERT: BERT's body without kinds of tokens, under names of their own.

Embeddings of languages add nothing unless a text says its language, which none does here. Source: Lample and Conneau
2019 (arXiv 1901.07291), Le et al. 2019 (arXiv 1912.05372), and the hub's `xlm` and `flaubert` configs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import HeadForm, read_encoder, read_head, when, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import Task, TransformerConfig

NAMES = {"emb_dim": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads"}
"""What its configs call BERT's keys."""
FORMS: dict[Task, HeadForm] = dict.fromkeys(("masked_lm", "sequence", "tokens", "span"), HeadForm())


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    activation = "gelu" if reader.flag("gelu_activation", default=True) else "relu"
    reader.raw |= {ours: reader.take(theirs, None) for theirs, ours in NAMES.items()}
    reader.raw |= {"intermediate_size": 4 * reader.integer("hidden_size"), "hidden_act": activation}
    config = read_encoder(reader)
    assert config.encoder is not None, "an encoder"
    head = read_head(reader, FORMS, config.vocab_size)
    return replace(config, encoder=replace(config.encoder, token_types=0, head=head))


def _writer(name: str) -> Callable[[TransformerConfig], dict[str, Any]]:
    def write_config(config: TransformerConfig) -> dict[str, Any]:
        """Switches to a hub config that `read_config` reads to the same switches."""
        written = write_encoder(config)
        gelu = written.pop("hidden_act") == "gelu"
        del written["type_vocab_size"], written["intermediate_size"]
        head = write_head(config.head, name)
        if config.head is not None and config.head.task == "masked_lm":
            head["architectures"] = [f"{name}WithLMHeadModel"]
        keys = {theirs: written.pop(ours) for theirs, ours in NAMES.items()}
        return {**keys, **written, **head, "gelu_activation": gelu, "pad_token_id": 2}

    return write_config


ATTENTION, FFN = "transformer.attentions.{i}.", "transformer.ffns.{i}."
RULES = (
    KeyRule("transformer.embeddings.weight", ("embed_tokens.weight",)),
    KeyRule("transformer.position_embeddings.weight", ("embed_positions.weight",)),
    *linear_rules("transformer.layer_norm_emb", "embed_norm"),
    *layer_rules(ATTENTION, "blocks.{i}.attention.", {"q_lin": "q", "k_lin": "k", "v_lin": "v", "out_lin": "o"}),
    *layer_rules(FFN, "blocks.{i}.mlp.", {"lin1": "up", "lin2": "down"}),
    *linear_rules("transformer.layer_norm1.{i}", "blocks.{i}.attention_output_norm"),
    *linear_rules("transformer.layer_norm2.{i}", "blocks.{i}.mlp_output_norm"),
    *linear_rules("pred_layer.proj", "lm_head"),
    *when(linear_rules("sequence_summary.summary", "head.output"), "sequence"),
    *when(linear_rules("classifier", "head.output"), "tokens"),
    *when(linear_rules("qa_outputs", "head.output"), "span"),
)


def _row(name: str, classes: str) -> Family:
    return Family(
        name=name,
        architecture=f"{classes}Model",
        read_config=read_config,
        write_config=_writer(classes),
        rules=RULES,
        prefix="transformer.",
        harmless_keys={
            **ENCODER_HARMLESS,
            **dict.fromkeys(("dropout", "layerdrop", "embed_init_std", "init_std", "max_vocab", "min_count"),
                            "training only"),
            **dict.fromkeys(("summary_first_dropout", "start_n_top", "end_n_top"), "of heads that are not here"),
            **dict.fromkeys(("unk_index", "mask_index", "bos_index", "eos_index", "pad_index", "mask_token_id"),
                            "the tokenizer's business"),
            **dict.fromkeys(("n_langs", "use_lang_emb", "lang_id", "lang2id", "id2lang"), "no text says its language"),
            "n_words": "vocab_size says it",
            "sinusoidal_embeddings": "the table of positions holds them",
        },
        neutral_values={
            **ENCODER_NEUTRAL, "causal": (False,), "asm": (False,), "pre_norm": (False,), "is_encoder": (True,),
            "summary_type": ("first",),
            "summary_use_proj": (True,), "summary_activation": (), "summary_proj_to_labels": (True,),
        },
        harmless_tensors=(r"transformer\.(position_ids|lang_embeddings\.weight)", r"pred_layer\.proj\.(weight|bias)"),
    )  # fmt: skip


XLM = _row("xlm", "XLM")
FLAUBERT = _row("flaubert", "Flaubert")
