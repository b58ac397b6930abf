"""BioGPT: OPT's graph and positions with GELUs, its embeddings scaled by the root of the width.

Source: Luo et al. 2022 (arXiv 2210.10341), and the hub's `biogpt` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import opt
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_attention, with_biases
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import MlpConfig, NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    width = reader.integer("hidden_size")
    config = TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=width,
        num_layers=reader.integer("num_hidden_layers", high=4096),
        context_length=reader.integer("max_position_embeddings"),
        norm=NormConfig("layer", 1e-5),
        attention=read_attention(reader, width, None),
        mlp=MlpConfig(
            reader.integer("intermediate_size"), reader.choice("hidden_act", table=ACTIVATIONS, default="gelu"), False
        ),
        rope=None,
        tie_embeddings=reader.flag("tie_word_embeddings", default=True),
        embedding_scale=width**0.5 if reader.flag("scale_embedding", default=True) else 1.0,
    )
    return with_biases(config, qkv=True, output=True, mlp=True)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    kept = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    return {
        **{key: opt.write_config(config)[key] for key in (*kept, "tie_word_embeddings")},
        "intermediate_size": config.mlp.intermediate_size,
        "hidden_act": HUB_ACTIVATIONS[config.mlp.activation],
        "scale_embedding": config.embedding_scale != 1,
    }


def _renamed(rule: KeyRule) -> KeyRule:
    name = rule.stored.replace("model.decoder.final_layer_norm", "biogpt.layer_norm")
    stored = name.replace("model.decoder.", "biogpt.").replace("lm_head.", "output_projection.")
    return replace(rule, stored=stored)


BIOGPT = Family(
    name="biogpt",
    architecture="BioGptForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=tuple(map(_renamed, opt.RULES)),
    prefix="biogpt.",
    harmless_keys={
        **dict.fromkeys(
            ("activation_dropout", "attention_probs_dropout_prob", "hidden_dropout_prob", "layerdrop"), "training only"
        ),
        "layer_norm_eps": "peers do not read it",
    },
)
