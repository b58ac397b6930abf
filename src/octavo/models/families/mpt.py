"""MPT: ALiBi, LayerNorms without biases, no bias anywhere, q, k and v in one matrix and, in some, cut to a range.

Source: MosaicML 2023, and the hub's `mpt` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.config_keys import HARMLESS, NEUTRAL
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    hidden_size, heads = reader.integer("d_model"), reader.integer("n_heads", high=65536)
    scale, clip = _read_attention(reader.section("attn_config"))
    head_dim = reader.shared_out(hidden_size, heads, "n_heads")
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=reader.integer("n_layers", high=4096),
        context_length=reader.integer("max_seq_len", default=2048),
        norm=NormConfig("layer_without_bias", reader.number("layer_norm_epsilon", default=1e-5)),
        attention=AttentionConfig(heads, heads, head_dim, scale=scale, alibi=True, alibi_after_scale=True, clip=clip),
        mlp=MlpConfig(4 * hidden_size, "gelu", gated=False),
        rope=None,
        tie_embeddings=reader.flag("tie_word_embeddings", default=True),
    )


def _read_attention(section: ConfigReader | None) -> tuple[float | None, float | None]:
    """Scale of the scores and range of q, k and v, where the config says them."""
    if section is None:
        return None, None
    section.neutral({
        "attn_type": ("multihead_attention",), "prefix_lm": (False,), "qk_ln": (False,), "alibi": (True,),
        "alibi_bias_max": (8,), "attn_uses_sequence_id": (False,),
    })  # fmt: skip
    section.skip(*HARMLESS, *NEUTRAL, "attn_pdrop", "attn_impl")
    return section.optional_number("softmax_scale", None), section.optional_number("clip_qkv", None)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "n_layers": config.num_layers,
        "n_heads": config.attention.num_heads,
        "max_seq_len": config.context_length,
        "layer_norm_epsilon": config.norm.eps,
        "attn_config": {"softmax_scale": config.attention.scale, "clip_qkv": config.attention.clip, "alibi": True},
        "tie_word_embeddings": config.tie_embeddings,
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `mpt` in hub spelling."""
    hidden_size, heads = reader.integer("embedding_length"), reader.integer("attention.head_count")
    reader.neutral({
        "attention.head_count_kv": (heads,), "feed_forward_length": (4 * hidden_size,),
        "attention.max_alibi_bias": (8.0,),
    })  # fmt: skip
    clip = reader.optional_number("attention.clamp_kqv", None)
    return {
        "vocab_size": reader.integer("vocab_size"),
        "d_model": hidden_size,
        "n_layers": reader.integer("block_count"),
        "n_heads": heads,
        "max_seq_len": reader.integer("context_length"),
        "layer_norm_epsilon": rounded(reader.number("attention.layer_norm_epsilon")),
        "attn_config": {"clip_qkv": None if clip is None else rounded(clip)},
        "tie_word_embeddings": not present("output.weight"),
    }


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The keys that only this architecture has; without the first, readers take a model for one without positions."""
    clip = config.attention.clip
    return {"attention.max_alibi_bias": 8.0, **({} if clip is None else {"attention.clamp_kqv": clip})}


LAYER, BLOCK = "transformer.blocks.{i}.", "blocks.{i}."
RULES = (
    KeyRule("transformer.wte.weight", ("embed_tokens.weight",)),
    *linear_rules(LAYER + "norm_1", BLOCK + "attention_norm"),
    *linear_rules(LAYER + "attn.Wqkv", *QKV),
    *linear_rules(LAYER + "attn.out_proj", BLOCK + "attention.o"),
    *linear_rules(LAYER + "norm_2", BLOCK + "mlp_norm"),
    *linear_rules(LAYER + "ffn.up_proj", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "ffn.down_proj", BLOCK + "mlp.down"),
    *linear_rules("transformer.norm_f", "norm"),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)
OWN_HARMLESS = {
    **dict.fromkeys(("emb_pdrop", "resid_pdrop", "init_config", "init_device"), "training only"),
    **dict.fromkeys(("verbose", "use_cache"), "how peers are called"),
    **dict.fromkeys(("tokenizer_name", "learned_pos_emb"), "peers do not read it"),
}

MPT = Family(
    name="mpt",
    architecture="MptForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    gguf=GgufLayout("mpt", gguf_hub_config, gguf_names.FUSED_RULES, metadata=gguf_metadata),
    harmless_keys=OWN_HARMLESS,
    neutral_values={
        "logit_scale": (), "no_bias": (True,), "embedding_fraction": (1, 1.0), "expansion_ratio": (4,),
        "norm_type": ("low_precision_layernorm",),
    },
)  # fmt: skip
