"""Falcon: 7B (multi-query), 40B and 11B (grouped-query, the new decoder), and RW (ALiBi, blocks in sequence).

Hub files hold q, k and v in one matrix, by key-value head: one for all queries in 7B, one for each in RW.
Source: Almazrouei et al. 2023 (arXiv 2311.16867), Penedo et al. 2023 (arXiv 2306.01116), the hub's `falcon` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.errors import FormatError
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.rope import read_rope, write_rope
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, Placement, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    hidden_size = reader.integer("hidden_size", "n_embed")
    bias, context_length = reader.flag("bias", default=False), reader.integer("max_position_embeddings", default=2048)
    attention = _read_attention(reader, hidden_size, bias)
    intermediate_size = reader.integer("ffn_hidden_size", default=4 * hidden_size)
    activation = reader.choice("activation", table=ACTIVATIONS, default="gelu")
    rope = read_rope(reader, attention.head_dim, context_length)
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=reader.integer("num_hidden_layers", "n_layer", high=4096),
        context_length=context_length,
        norm=NormConfig("layer", reader.number("layer_norm_epsilon", default=1e-5)),
        attention=attention,
        mlp=MlpConfig(intermediate_size, activation, gated=False, bias=bias),
        rope=None if attention.alibi else rope,
        tie_embeddings=reader.flag("tie_word_embeddings", default=True),
        placement=_placement(reader),
    )


def _read_attention(reader: ConfigReader, hidden_size: int, bias: bool) -> AttentionConfig:
    num_heads = reader.integer("num_attention_heads", "n_head", high=65536)
    num_kv_heads = reader.integer("num_kv_heads", "n_head_kv", default=num_heads, high=65536)
    multi_query = reader.flag("multi_query", default=True)
    if not reader.flag("new_decoder_architecture", default=False):
        num_kv_heads = 1 if multi_query else num_heads
    if hidden_size % num_heads or num_heads % num_kv_heads:
        raise FormatError(
            f"{reader.source} has {num_heads} heads, which do not divide hidden_size {hidden_size} or are no multiple "
            f"of {num_kv_heads} key-value heads",
            param="num_attention_heads",
        )
    alibi = reader.flag("alibi", default=False)
    return AttentionConfig(num_heads, num_kv_heads, hidden_size // num_heads, bias, bias, alibi=alibi)


def _placement(reader: ConfigReader) -> Placement:
    new = reader.flag("new_decoder_architecture", default=False)
    norms = reader.integer("num_ln_in_parallel_attn", default=2 if new else 1, high=2)
    if not reader.flag("parallel_attn", default=True):
        reader.neutral({"new_decoder_architecture": (False,)})
        return "pre"
    return "parallel_two" if new and norms == 2 else "parallel"


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    attention, rope = config.attention, config.rope
    grouped = attention.num_kv_heads not in (1, attention.num_heads)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "ffn_hidden_size": config.mlp.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": attention.num_heads,
        "num_kv_heads": attention.num_kv_heads,
        "max_position_embeddings": config.context_length,
        "layer_norm_epsilon": config.norm.eps,
        "activation": HUB_ACTIVATIONS[config.mlp.activation],
        "bias": config.mlp.bias,
        "alibi": attention.alibi,
        "multi_query": attention.num_kv_heads == 1,
        "parallel_attn": config.placement != "pre",
        "new_decoder_architecture": grouped or config.placement == "parallel_two",
        "num_ln_in_parallel_attn": 2 if config.placement == "parallel_two" else 1,
        "tie_word_embeddings": config.tie_embeddings,
        **({} if rope is None else write_rope(rope, attention.head_dim, config.context_length)),
    }


def _two_norms(config: TransformerConfig) -> bool:
    return config.placement == "parallel_two"


def _norm_rules(stored: str, canonical: str, *, two: bool, layer: str = "transformer.h.{i}.") -> tuple[KeyRule, ...]:
    """The rules of a norm that has this name where there are two in a parallel block, or elsewhere."""
    names = {f"{layer}{stored}.{leaf}": (f"blocks.{{i}}.{canonical}.{leaf}",) for leaf in ("weight", "bias")}
    return tuple(KeyRule(name, into, when=lambda config: _two_norms(config) is two) for name, into in names.items())


LAYER = "transformer.h.{i}."
RULES = (
    KeyRule("transformer.word_embeddings.weight", ("embed_tokens.weight",)),
    *_norm_rules("input_layernorm", "attention_norm", two=False),
    *_norm_rules("post_attention_layernorm", "mlp_norm", two=False),
    *_norm_rules("ln_attn", "attention_norm", two=True),
    *_norm_rules("ln_mlp", "mlp_norm", two=True),
    *linear_rules(LAYER + "self_attention.query_key_value", *QKV, layout="groups"),
    *linear_rules(LAYER + "self_attention.dense", "blocks.{i}.attention.o"),
    *linear_rules(LAYER + "mlp.dense_h_to_4h", "blocks.{i}.mlp.up"),
    *linear_rules(LAYER + "mlp.dense_4h_to_h", "blocks.{i}.mlp.down"),
    *linear_rules("transformer.ln_f", "norm"),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `falcon` in hub spelling; its blocks are all parallel, and none has ALiBi."""
    config = gguf_decoder.decoder_config(reader, present)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    two = present("blk.0.attn_norm_2.weight")
    return {
        **{key: config[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings",
                                        "tie_word_embeddings", "rope_theta", "rope_scaling")},
        "ffn_hidden_size": config["intermediate_size"],
        "num_attention_heads": heads,
        "num_kv_heads": kv_heads,
        "layer_norm_epsilon": config["layer_norm_eps"],
        "bias": present("blk.0.attn_qkv.bias"),
        "multi_query": kv_heads == 1,
        "new_decoder_architecture": two or kv_heads not in (1, heads),
        "num_ln_in_parallel_attn": 2 if two else 1,
    }  # fmt: skip


def _gguf_norms() -> tuple[KeyRule, ...]:
    """In a block with two norms, attn_norm is the MLP's and attn_norm_2 attention's."""
    names = (
        ("attn_norm", "attention_norm", False),
        ("attn_norm", "mlp_norm", True),
        ("attn_norm_2", "attention_norm", True),
    )
    return tuple(
        rule for stored, canonical, two in names for rule in _norm_rules(stored, canonical, two=two, layer="blk.{i}.")
    )


GGUF_RULES = (*gguf_names.BODY, *gguf_names.FUSED_ATTENTION, *gguf_names.MLP, *_gguf_norms())
FALCON = Family(
    name="falcon",
    architecture="FalconForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    gguf=GgufLayout("falcon", gguf_hub_config, GGUF_RULES),
    harmless_keys={
        "hidden_dropout": "dropout acts in training only",
        "ff_factor": "ffn_hidden_size says it",
    },
    neutral_values={"apply_residual_connection_post_layernorm": (False,)},
)
