"""Marian: the encoder-decoder of 2017 as thousands of translation models have it: post-norm, sinusoidal positions.

Source: Vaswani et al. 2017 (arXiv 1706.03762), Junczys-Dowmunt et al. 2018 (arXiv 1804.00344), and the hub's `marian`
config.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from octavo.errors import UnsupportedError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables.config_keys import SEARCHED
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import AttentionConfig, EncoderConfig, MlpConfig, NormConfig, TransformerConfig

EPS = 1e-5
"""Of every LayerNorm; no config says it."""


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; both sides have one width, and vocabularies are shared."""
    name = str(reader.raw.get("architectures")).strip("[]'")
    if name.endswith(("ForSequenceClassification", "ForQuestionAnswering")):
        raise UnsupportedError(
            f"{reader.source} has the architecture {name}; encoder-decoders are done here where they write, not where "
            "a head scores",
            param="architectures",
        )
    width = reader.integer("d_model")
    refuse_odd(reader, width)
    activation = reader.choice("activation_function", table={**ACTIVATIONS, "swish": "silu"}, default="gelu")

    def side(name: str, encoder: EncoderConfig | None) -> TransformerConfig:
        heads = reader.integer(f"{name}_attention_heads", high=65536)
        head_dim = reader.shared_out(width, heads, f"{name}_attention_heads")
        return TransformerConfig(
            vocab_size=reader.integer("vocab_size"),
            hidden_size=width,
            num_layers=reader.integer(f"{name}_layers", high=4096),
            context_length=reader.integer("max_position_embeddings", default=1024),
            norm=NormConfig("layer", EPS),
            attention=AttentionConfig(heads, heads, head_dim, qkv_bias=True, output_bias=True),
            mlp=MlpConfig(reader.integer(f"{name}_ffn_dim"), activation, gated=False, bias=True),
            rope=None,
            tie_embeddings=reader.flag("tie_word_embeddings", default=True),
            placement="post",
            head_bias=True,
            embedding_scale=math.sqrt(width) if reader.flag("scale_embedding", default=False) else 1.0,
            encoder=encoder,
            sinusoidal=True,
        )

    return replace(side("decoder", None), memory=side("encoder", EncoderConfig()))


def refuse_odd(reader: ConfigReader, width: int) -> None:
    """Raises UnsupportedError for a width that sines and cosines do not fill."""
    if width % 2:
        raise UnsupportedError(f"{reader.source} has d_model {width}; only even widths are done here", param="d_model")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.memory is not None, "it has two sides"
    sides = {"decoder": config, "encoder": config.memory}
    return {
        "architectures": ["MarianMTModel"],
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        **{f"{name}_layers": side.num_layers for name, side in sides.items()},
        **{f"{name}_attention_heads": side.attention.num_heads for name, side in sides.items()},
        **{f"{name}_ffn_dim": side.mlp.intermediate_size for name, side in sides.items()},
        "max_position_embeddings": config.context_length,
        "activation_function": HUB_ACTIVATIONS[config.mlp.activation],
        "scale_embedding": config.embedding_scale != 1,
        "tie_word_embeddings": config.tie_embeddings,
        "is_encoder_decoder": True,
        "share_encoder_decoder_embeddings": True,
    }


def _stack(hub: str, ours: str, parts: dict[str, str]) -> tuple[KeyRule, ...]:
    """The blocks of one side. parts: its attentions, by the hub's name."""
    layer, block = f"model.{hub}.layers.{{i}}.", f"{ours}blocks.{{i}}."
    rules: list[KeyRule] = []
    for name, part in parts.items():
        for theirs, mine in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v"), ("out_proj", "o")):
            rules += linear_rules(f"{layer}{name}.{theirs}", f"{block}{part}.{mine}")
        rules += linear_rules(f"{layer}{name}_layer_norm", f"{block}{part}_output_norm")
    return (
        *rules,
        *linear_rules(f"{layer}fc1", f"{block}mlp.up"),
        *linear_rules(f"{layer}fc2", f"{block}mlp.down"),
        *linear_rules(f"{layer}final_layer_norm", f"{block}mlp_output_norm"),
    )


MARIAN = Family(
    name="marian",
    architecture="MarianMTModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        KeyRule("model.shared.weight", ("embed_tokens.weight",)),
        *_stack("encoder", "memory.", {"self_attn": "attention"}),
        *_stack("decoder", "", {"self_attn": "attention", "encoder_attn": "cross_attention"}),
        KeyRule("lm_head.weight", ("lm_head.weight",)),
        KeyRule("final_logits_bias", ("lm_head.bias",), "one_row"),
    ),
    prefix="",
    harmless_keys={
        **dict.fromkeys(
            ("dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "classifier_dropout",
             "classif_dropout", "init_std"),
            "training only",
        ),
        **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "hidden_size"), "said again of the encoder"),
        **SEARCHED,
        "decoder_vocab_size": "equal to vocab_size where embeddings are shared",
    },
    neutral_values={
        "is_encoder_decoder": (True,),
        "share_encoder_decoder_embeddings": (True,),
        "normalize_embedding": (False,),
        "normalize_before": (False,),
        "add_final_layer_norm": (False,),
        "add_bias_logits": (False,),
        "static_position_embeddings": (True,),
        "is_decoder": (False,),
        "extra_pos_embeddings": (0,),
    },
    harmless_tensors=(
        r"model\.(encoder|decoder)\.embed_tokens\.weight", r"model\.(encoder|decoder)\.embed_positions\.weight",
    ),
)  # fmt: skip
