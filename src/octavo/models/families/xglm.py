"""XGLM: BioGPT's graph with fairseq's sines in place of a table of positions.

Source: Lin et al. 2021 (arXiv 2112.10668), and the hub's `xglm` config.
"""

from __future__ import annotations

from typing import Any

from octavo.models.families import marian
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.tables.hub_names import BLOCK, INTO, LAYER, PROJECTIONS, SELF
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    width, heads = reader.integer("d_model"), reader.integer("attention_heads", high=65536)
    marian.refuse_odd(reader, width)
    head_dim = reader.shared_out(width, heads, "attention_heads")
    activation = reader.choice("activation_function", table=ACTIVATIONS, default="gelu")
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=width,
        num_layers=reader.integer("num_layers", high=4096),
        context_length=reader.integer("max_position_embeddings"),
        norm=NormConfig("layer", 1e-5),
        attention=AttentionConfig(heads, heads, head_dim, qkv_bias=True, output_bias=True),
        mlp=MlpConfig(reader.integer("ffn_dim"), activation, gated=False, bias=True),
        rope=None,
        tie_embeddings=reader.flag("tie_word_embeddings", default=True),
        embedding_scale=width**0.5 if reader.flag("scale_embedding", default=True) else 1.0,
        sinusoidal=True,
        fairseq_sines=2,
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "num_layers": config.num_layers,
        "attention_heads": config.attention.num_heads,
        "ffn_dim": config.mlp.intermediate_size,
        "max_position_embeddings": config.context_length,
        "activation_function": HUB_ACTIVATIONS[config.mlp.activation],
        "scale_embedding": config.embedding_scale != 1,
        "tie_word_embeddings": config.tie_embeddings,
    }


NAMES = {"self_attn_layer_norm": "attention_norm", "final_layer_norm": "mlp_norm", "fc1": "mlp.up", "fc2": "mlp.down"}
XGLM = Family(
    name="xglm",
    architecture="XGLMForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *layer_rules("", "", {"model.embed_tokens": "embed_tokens", "model.layer_norm": "norm", "lm_head": "lm_head"}),
        *layer_rules(SELF, INTO, {**{n: m for n, m in PROJECTIONS.items() if n != "o_proj"}, "out_proj": "o"}),
        *layer_rules(LAYER, BLOCK, NAMES),
    ),
    harmless_keys={
        **dict.fromkeys(("dropout", "activation_dropout", "layerdrop", "init_std"), "training only"),
        "decoder_start_token_id": "of encoder-decoders",
        **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "hidden_size"), "said again"),
    },
)
