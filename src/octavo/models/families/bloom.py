"""BLOOM: ALiBi instead of positions, a LayerNorm on the embeddings, q, k and v in one matrix by head.

Source: BigScience 2022 (arXiv 2211.05100), and the hub's `bloom` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention, with_biases
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches. The context is as long as training's, though ALiBi has no end."""
    hidden_size = reader.integer("hidden_size", "n_embed")
    heads = reader.integer("n_head", "num_attention_heads", high=65536)
    config = TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=reader.integer("n_layer", "num_hidden_layers", high=4096),
        context_length=reader.integer("seq_length", default=2048),
        norm=NormConfig("layer", reader.number("layer_norm_epsilon", default=1e-5)),
        attention=AttentionConfig(heads, heads, reader.shared_out(hidden_size, heads, "n_head")),
        mlp=MlpConfig(4 * hidden_size, "gelu_tanh", gated=False),
        rope=None,
        tie_embeddings=reader.flag("tie_word_embeddings", default=True),
        embedding_norm=True,
    )
    config = with_attention(config, alibi=True, alibi_after_scale=True)
    return with_biases(config, qkv=True, output=True, mlp=True)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.attention.num_heads,
        "seq_length": config.context_length,
        "layer_norm_epsilon": config.norm.eps,
        "tie_word_embeddings": config.tie_embeddings,
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `bloom` in hub spelling."""
    hidden_size, heads = reader.integer("embedding_length"), reader.integer("attention.head_count")
    reader.neutral({"attention.head_count_kv": (heads,), "feed_forward_length": (4 * hidden_size,)})
    return {
        "vocab_size": reader.integer("vocab_size"),
        "hidden_size": hidden_size,
        "n_layer": reader.integer("block_count"),
        "n_head": heads,
        "seq_length": reader.integer("context_length"),
        "layer_norm_epsilon": rounded(reader.number("attention.layer_norm_epsilon")),
        "tie_word_embeddings": not present("output.weight"),
    }


LAYER, BLOCK = "transformer.h.{i}.", "blocks.{i}."
RULES = (
    KeyRule("transformer.word_embeddings.weight", ("embed_tokens.weight",)),
    *linear_rules("transformer.word_embeddings_layernorm", "embed_norm"),
    *linear_rules(LAYER + "input_layernorm", BLOCK + "attention_norm"),
    *linear_rules(LAYER + "self_attention.query_key_value", *QKV, layout="groups"),
    *linear_rules(LAYER + "self_attention.dense", BLOCK + "attention.o"),
    *linear_rules(LAYER + "post_attention_layernorm", BLOCK + "mlp_norm"),
    *linear_rules(LAYER + "mlp.dense_h_to_4h", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "mlp.dense_4h_to_h", BLOCK + "mlp.down"),
    *linear_rules("transformer.ln_f", "norm"),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)
GGUF_RULES = (*gguf_names.FUSED_RULES, *linear_rules("token_embd_norm", "embed_norm"))

BLOOM = Family(
    name="bloom",
    architecture="BloomForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    gguf=GgufLayout("bloom", gguf_hub_config, GGUF_RULES),
    harmless_keys={
        **dict.fromkeys(("hidden_dropout", "attention_dropout"), "dropout acts in training only"),
        **dict.fromkeys(("skip_bias_add", "skip_bias_add_qkv", "unk_token_id", "n_inner",
                         "masked_softmax_fusion", "bias_dropout_fusion", "attention_softmax_in_fp32"), "how peers run"),
        "offset_alibi": "shifts all scores of a query alike",
    },
    neutral_values=dict.fromkeys(("apply_residual_connection_post_layernorm", "slow_but_exact"), (False,)),
)  # fmt: skip
