"""ModernBERT: a pre-norm encoder with rotary positions, gated MLPs, and windows to both sides in most blocks.

The first block has no norm before attention, since the embeddings are normalised. `local_attention` is the window's
whole width: half of it is seen on each side. Source: Warner et al. 2024 (arXiv 2412.13663), and the hub's config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import layer_types, read_decoder, read_layer_types, with_biases
from octavo.models.mapping.encoder import HeadForm, read_head, when, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.rope import RopeSpelling, read_rope
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS
from octavo.models.mapping.tables.spellings import ACTIVATIONS, FULL, HUB_HEAD_ACTIVATIONS, SLIDING
from octavo.nn.config import EncoderConfig, HeadConfig, NormConfig, TransformerConfig

GLOBAL = RopeSpelling(theta=160000.0, theta_key="global_rope_theta", blocks=FULL)
LOCAL = RopeSpelling(theta=10000.0, theta_key="local_rope_theta", blocks=SLIDING)
NAMES = {"global": False, "local": True}
POOLINGS: dict[str, Literal["first", "mean"]] = {"cls": "first", "mean": "mean"}


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm_bias = reader.flag("norm_bias", default=False)
    norm = NormConfig("layer" if norm_bias else "layer_without_bias", reader.number("norm_eps", default=1e-5))
    config = read_decoder(reader, norm, tie=True, activation="gelu", activation_key="hidden_activation", rope=GLOBAL)
    biased = reader.flag("attention_bias", default=False)
    config = with_biases(config, qkv=biased, output=biased, mlp=reader.flag("mlp_bias", default=False))
    every = reader.integer("global_attn_every_n_layers", default=3)
    slides = read_layer_types(reader, config.num_layers, lambda layer: layer % every != 0)
    local = read_rope(reader, config.attention.head_dim, config.context_length, LOCAL)
    seen = reader.integer("local_attention", default=128) // 2 + 1
    form = HeadForm(reader.choice("classifier_activation", table=ACTIVATIONS, default="gelu"), norm=True)
    head = read_head(
        reader,
        {"masked_lm": form, "sequence": form, "tokens": form, "span": form},
        config.vocab_size,
        dense_bias=reader.flag("classifier_bias", default=False),
        pooling=reader.choice("classifier_pooling", table=POOLINGS, default="cls"),
    )
    return replace(
        config,
        rope_layers=tuple(local if slide else config.rope for slide in slides),
        windows=tuple(seen if slide else None for slide in slides),
        head_bias=reader.flag("decoder_bias", default=True),
        embedding_norm=True,
        encoder=EncoderConfig(first_attention_norm=False, head=head),
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    slides = tuple(window is not None for window in config.windows)
    width = next((window for window in config.windows if window is not None), 65)
    ropes = dict(zip(slides, config.rope_layers, strict=True))
    head = config.head
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.attention.num_heads,
        "max_position_embeddings": config.context_length,
        "hidden_activation": HUB_HEAD_ACTIVATIONS[config.mlp.activation],
        "norm_eps": config.norm.eps,
        "norm_bias": config.norm.kind == "layer",
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.mlp.bias,
        "decoder_bias": config.head_bias,
        "local_attention": 2 * (width - 1),
        "layer_types": layer_types(slides),
        "tie_word_embeddings": config.tie_embeddings,
        **{f"{name}_rope_theta": rope.theta for name, slide in NAMES.items() if (rope := ropes.get(slide))},
        **write_head(head, "ModernBert"),
        **({} if head is None else _dense_layer(head)),
    }


def _dense_layer(head: HeadConfig) -> dict[str, Any]:
    return {
        "classifier_bias": head.dense_bias,
        "classifier_activation": HUB_HEAD_ACTIVATIONS[head.activation or "gelu"],
        "classifier_pooling": "cls" if head.pooling == "first" else "mean",
    }


LAYER, BLOCK = "model.layers.{i}.", "blocks.{i}."
MODERNBERT = Family(
    name="modernbert",
    architecture="ModernBertModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        KeyRule("model.embeddings.tok_embeddings.weight", ("embed_tokens.weight",)),
        *linear_rules("model.embeddings.norm", "embed_norm"),
        *linear_rules(LAYER + "attn_norm", BLOCK + "attention_norm"),
        *linear_rules(LAYER + "attn.Wqkv", BLOCK + "attention.q", BLOCK + "attention.k", BLOCK + "attention.v"),
        *linear_rules(LAYER + "attn.Wo", BLOCK + "attention.o"),
        *linear_rules(LAYER + "mlp_norm", BLOCK + "mlp_norm"),
        *linear_rules(LAYER + "mlp.Wi", BLOCK + "mlp.gate", BLOCK + "mlp.up"),
        *linear_rules(LAYER + "mlp.Wo", BLOCK + "mlp.down"),
        *linear_rules("model.final_norm", "norm"),
        *linear_rules("head.dense", "head.dense"),
        *linear_rules("head.norm", "head.norm"),
        *linear_rules("decoder", "lm_head"),
        *when(linear_rules("classifier", "head.output"), "sequence", "tokens", "span"),
    ),
    harmless_keys={
        **ENCODER_HARMLESS,
        **dict.fromkeys(("embedding_dropout", "mlp_dropout"), "dropout acts in training only"),
        **dict.fromkeys(("cls_token_id", "sep_token_id"), "the tokenizer's business"),
        **dict.fromkeys(
            ("sparse_prediction", "sparse_pred_ignore_index", "initializer_cutoff_factor"), "training only"
        ),
        **dict.fromkeys(("deterministic_flash_attn", "reference_compile", "repad_logits_with_grad"), "how peers run"),
        "position_embedding_type": "peers do not read it",
        "layer_norm_eps": "peers read norm_eps",
    },
)
