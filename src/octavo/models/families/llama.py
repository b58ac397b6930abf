"""LLaMA 1, 2 and 3.x, and what shares their graph: SmolLM2, TinyLlama, OpenLLaMA, CodeLLaMA, SOLAR.

RMSNorm before each sublayer, rotary positions, grouped-query attention, gated SiLU MLP; `attention_bias` puts a bias on
all four projections. GGUF files store the rows of q and k in pair order.
Source: Touvron et al. 2023 (arXiv 2302.13971, 2307.09288), Llama 3 (arXiv 2407.21783).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.errors import FormatError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import HARMLESS_KEYS, NEUTRAL_VALUES, Family, GgufLayout
from octavo.models.mapping.gguf import rope_scaling, rounded
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.rope import read_rope, write_rope
from octavo.nn.config import Activation, AttentionConfig, MlpConfig, NormConfig, TransformerConfig

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}  # fmt: skip


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    hidden_size = reader.integer("hidden_size")
    attention = _read_attention(reader, hidden_size)
    context_length = reader.integer("max_position_embeddings")
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=reader.integer("num_hidden_layers", high=4096),
        context_length=context_length,
        norm=NormConfig("rms", reader.number("rms_norm_eps")),
        attention=attention,
        mlp=MlpConfig(
            intermediate_size=reader.integer("intermediate_size"),
            activation=reader.choice("hidden_act", table=ACTIVATIONS, default="silu"),
            gated=True,
            bias=reader.flag("mlp_bias", default=False),
        ),
        rope=read_rope(reader, attention.head_dim, context_length),
        tie_embeddings=reader.flag("tie_word_embeddings", default=False),
    )


def _read_attention(reader: ConfigReader, hidden_size: int) -> AttentionConfig:
    num_heads = reader.integer("num_attention_heads", high=65536)
    num_kv_heads = reader.integer("num_key_value_heads", default=num_heads, high=65536)
    if num_heads % num_kv_heads:
        raise FormatError(
            f"{reader.source} has {num_heads} attention heads, not a multiple of its {num_kv_heads} key-value heads",
            param="num_key_value_heads",
        )
    if not reader.has("head_dim") and hidden_size % num_heads:
        raise FormatError(
            f"{reader.source} has hidden_size {hidden_size}, not a multiple of {num_heads} heads, and no head_dim",
            param="hidden_size",
        )
    head_dim = reader.integer("head_dim", default=max(1, hidden_size // num_heads), high=65536)
    bias = reader.flag("attention_bias", default=False)
    return AttentionConfig(num_heads, num_kv_heads, head_dim, qkv_bias=bias, output_bias=bias)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.rope is not None and config.norm.kind == "rms" and config.mlp.gated, "not a LLaMA shape"
    assert config.attention.qkv_bias == config.attention.output_bias, "attention_bias stands for all four projections"
    names = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu"}
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.attention.num_heads,
        "num_key_value_heads": config.attention.num_kv_heads,
        "head_dim": config.attention.head_dim,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm.eps,
        "hidden_act": names[config.mlp.activation],
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.mlp.bias,
        "tie_word_embeddings": config.tie_embeddings,
        **write_rope(config.rope, config.attention.head_dim, config.context_length),
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `llama` in hub spelling."""
    hidden_size = reader.integer("embedding_length")
    num_heads = reader.integer("attention.head_count", high=65536)
    head_dim = reader.integer("attention.key_length", default=max(1, hidden_size // num_heads), high=65536)
    reader.neutral({"attention.value_length": (head_dim,), "expert_count": (0,), "expert_used_count": (0,)})
    rotary_dim = reader.integer("rope.dimension_count", default=head_dim)
    return {
        "vocab_size": reader.integer("vocab_size"),
        "hidden_size": hidden_size,
        "intermediate_size": reader.integer("feed_forward_length"),
        "num_hidden_layers": reader.integer("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": reader.integer("attention.head_count_kv", default=num_heads),
        "head_dim": head_dim,
        "max_position_embeddings": reader.integer("context_length"),
        "rms_norm_eps": rounded(reader.number("attention.layer_norm_rms_epsilon")),
        "attention_bias": present("blk.0.attn_q.bias"),
        "mlp_bias": present("blk.0.ffn_gate.bias"),
        "tie_word_embeddings": not present("output.weight"),
        "rope_theta": rounded(reader.number("rope.freq_base", default=10000.0)),
        "partial_rotary_factor": rotary_dim / head_dim,
        "rope_scaling": rope_scaling(reader),
    }


LLAMA_RULES = (
    KeyRule("model.embed_tokens.weight", ("embed_tokens.weight",)),
    KeyRule("model.layers.{i}.input_layernorm.weight", ("blocks.{i}.attention_norm.weight",)),
    *linear_rules("model.layers.{i}.self_attn.q_proj", "blocks.{i}.attention.q"),
    *linear_rules("model.layers.{i}.self_attn.k_proj", "blocks.{i}.attention.k"),
    *linear_rules("model.layers.{i}.self_attn.v_proj", "blocks.{i}.attention.v"),
    *linear_rules("model.layers.{i}.self_attn.o_proj", "blocks.{i}.attention.o"),
    KeyRule("model.layers.{i}.post_attention_layernorm.weight", ("blocks.{i}.mlp_norm.weight",)),
    *linear_rules("model.layers.{i}.mlp.gate_proj", "blocks.{i}.mlp.gate"),
    *linear_rules("model.layers.{i}.mlp.up_proj", "blocks.{i}.mlp.up"),
    *linear_rules("model.layers.{i}.mlp.down_proj", "blocks.{i}.mlp.down"),
    KeyRule("model.norm.weight", ("norm.weight",)),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)

GGUF_RULES = (
    KeyRule("token_embd.weight", ("embed_tokens.weight",)),
    KeyRule("blk.{i}.attn_norm.weight", ("blocks.{i}.attention_norm.weight",)),
    *linear_rules("blk.{i}.attn_q", "blocks.{i}.attention.q", layout="pairs"),
    *linear_rules("blk.{i}.attn_k", "blocks.{i}.attention.k", layout="pairs"),
    *linear_rules("blk.{i}.attn_v", "blocks.{i}.attention.v"),
    *linear_rules("blk.{i}.attn_output", "blocks.{i}.attention.o"),
    KeyRule("blk.{i}.ffn_norm.weight", ("blocks.{i}.mlp_norm.weight",)),
    *linear_rules("blk.{i}.ffn_gate", "blocks.{i}.mlp.gate"),
    *linear_rules("blk.{i}.ffn_up", "blocks.{i}.mlp.up"),
    *linear_rules("blk.{i}.ffn_down", "blocks.{i}.mlp.down"),
    KeyRule("output_norm.weight", ("norm.weight",)),
    KeyRule("output.weight", ("lm_head.weight",)),
)

LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    prefix="model.",
    gguf=GgufLayout("llama", gguf_hub_config, GGUF_RULES, harmless_tensors=(r"rope_freqs\.weight",)),
    harmless_keys={**HARMLESS_KEYS, "is_llama_config": "says what model_type says"},
    neutral_values={**NEUTRAL_VALUES, "rope_interleaved": (False,)},
    # Old exporters saved the rotary frequencies, which follow from the config.
    harmless_tensors=(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", r"model\.rotary_emb\.inv_freq"),
)
