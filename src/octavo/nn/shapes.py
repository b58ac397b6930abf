"""The parameters of a `TransformerConfig`, by canonical name and shape; matrices are (out, in). No torch here."""

from __future__ import annotations

from dataclasses import replace

from octavo.nn.config import (
    AttentionConfig,
    HeadConfig,
    LatentConfig,
    MoeConfig,
    NormConfig,
    NormKind,
    QkNorm,
    TransformerConfig,
)
from octavo.nn.tables.placements import NORMS

Shapes = dict[str, tuple[int, ...]]

LATENT_NORM_EPS = 1e-6
"""Of the norms on latent vectors, whatever the config says of the others: so in the published code."""

BARE = ("layer_bare", "rms_bare")
"""Kinds of norms without weights."""


def parameter_shapes(config: TransformerConfig) -> Shapes:
    """Canonical name -> shape of every parameter, in the order of computation; a tied head is not among them."""
    shapes = _embedding_shapes(config)
    if config.memory is not None:
        own = parameter_shapes(config.memory).items()
        shapes.update({f"memory.{name}": shape for name, shape in own if name != "embed_tokens.weight"})
    for index in range(config.num_stored_blocks):
        shapes.update({f"blocks.{index}.{name}": shape for name, shape in _block_shapes(config, index).items()})
    if config.has_final_norm:
        shapes.update(_norm_shapes("norm", config.norm, config.hidden_size))
    if config.head is not None:
        shapes.update(_head_shapes(config, config.head))
    if config.has_logits:
        head = _linear_shapes("lm_head", config.vocab_size, config.embedding_size, config.head_bias)
        shapes.update({name: shape for name, shape in head.items() if len(shape) == 1 or not config.tie_embeddings})
    return shapes


def head_width(config: TransformerConfig, head: HeadConfig) -> int:
    """The width of what the last layer of an encoder's head reads."""
    return config.embedding_size if head.task == "masked_lm" else config.hidden_size


def block_norms(config: TransformerConfig, layer: int) -> tuple[str, ...]:
    """The norms of one block, by canonical name."""
    norms = NORMS[config.placement]
    if config.reads_memory(layer):
        norms = (*norms[:-1], norms[0].replace("attention", "cross_attention"), norms[-1])
    if layer == 0 and config.encoder is not None and not config.encoder.first_attention_norm:
        return tuple(name for name in norms if name != "attention_norm")
    return norms


def memory_size(config: TransformerConfig) -> int:
    """The width of what cross-attention reads."""
    return config.hidden_size if config.memory is None else config.memory.hidden_size


def kept_key(config: TransformerConfig) -> tuple[int, int]:
    """Heads and width of the keys that are kept of a token; values are as wide, or lie in them if they are latent."""
    attention, latent = config.attention, config.attention.latent
    if latent is None or config.rope is None:
        return attention.num_kv_heads, attention.head_dim
    return 1, latent.kv_rank + config.rope.rotary_dim


def qk_norm_widths(attention: AttentionConfig) -> dict[str, int]:
    """The norms of q and k and the length of their weights; empty without them."""
    if attention.qk_norm is None:
        return {}
    heads = {"q_norm": attention.num_heads, "k_norm": attention.num_kv_heads}
    one = attention.qk_norm in ("head", "turned")
    return {name: attention.head_dim * (1 if one else count) for name, count in heads.items()}


def _embedding_shapes(config: TransformerConfig) -> Shapes:
    width, encoder = config.embedding_size, config.encoder
    shapes: Shapes = {}
    if encoder is not None and encoder.patches is not None:
        patches = encoder.patches
        shapes = _linear_shapes("embed_patches", width, patches.channels * patches.patch_size**2, patches.bias)
        if patches.class_token:
            shapes["embed_class.weight"] = (1, width)
    elif config.num_queries:
        shapes["embed_queries.weight"] = (config.num_queries, width)
    else:
        shapes["embed_tokens.weight"] = (config.vocab_size, width)
    if config.learned_positions:
        shapes["embed_positions.weight"] = (config.num_positions, width)
    if config.attention.relative is not None:
        shapes["relative_bias.weight"] = (config.attention.relative.buckets, config.attention.num_heads)
    if config.attention.disentangled is not None:
        shapes["distances.weight"] = (2 * config.attention.disentangled.buckets, config.hidden_size)
        shapes.update(_norm_shapes("distances.norm", config.norm, config.hidden_size))
    if encoder is not None and encoder.token_types:
        shapes["embed_types.weight"] = (encoder.token_types, width)
    if config.embedding_norm:
        shapes.update(_norm_shapes("embed_norm", config.norm, width))
    if encoder is not None and encoder.embedding_size is not None:
        shapes.update(_linear_shapes("embed_projection", config.hidden_size, width, True))
    return shapes


def _head_shapes(config: TransformerConfig, head: HeadConfig) -> Shapes:
    width, shapes = head_width(config, head), Shapes()
    if head.activation is not None:
        shapes.update(_linear_shapes("head.dense", width, config.hidden_size, head.dense_bias))
    if head.norm:
        shapes.update(_norm_shapes("head.norm", config.norm, width))
    if head.task != "masked_lm":
        shapes.update(_linear_shapes("head.output", head.labels, width, True))
    return shapes


def _block_shapes(config: TransformerConfig, layer: int) -> Shapes:
    width, norms = config.hidden_size, block_norms(config, layer)
    shapes: Shapes = {}
    moe = config.moe_of(layer)
    mlp = _mlp_shapes("mlp", config, config.mlp.intermediate_size) if moe is None else _moe_shapes(config, moe)
    reads = config.memory is not None and config.reads_memory(layer)
    cross = {"cross_attention": _attention_shapes(config, "cross_attention")} if reads else {}
    for part, sublayer in {"attention": _attention_shapes(config, "attention"), **cross, "mlp": mlp}.items():
        for name in (f"{part}_norm", "", f"{part}_output_norm"):
            shapes.update(sublayer if not name else _norm_shapes(name, config.norm, width) if name in norms else {})
    return shapes


def _attention_shapes(config: TransformerConfig, part: str) -> Shapes:
    attention, width = config.attention, config.hidden_size
    if attention.latent is not None:
        return _latent_shapes(config, attention.latent)
    q_size, kv_size = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
    read = memory_size(config) if part == "cross_attention" else width
    shapes = {
        **_linear_shapes(f"{part}.q", q_size, width, attention.qkv_bias),
        **_linear_shapes(f"{part}.k", kv_size, read, attention.qkv_bias),
        **_linear_shapes(f"{part}.v", kv_size, read, attention.qkv_bias),
        **_linear_shapes(f"{part}.o", width, q_size, attention.output_bias),
    }
    if attention.output_gate:
        shapes.update(_linear_shapes(f"{part}.output_gate", q_size, width, False))
    if attention.sinks:
        shapes[f"{part}.sinks"] = (attention.num_heads,)
    kinds: dict[QkNorm | None, NormKind] = {"per_head": "layer_without_bias", "turned": "rms_bare"}
    norm = replace(config.norm, kind=kinds.get(attention.qk_norm, config.norm.kind))
    for name, size in qk_norm_widths(attention).items():
        shapes.update(_norm_shapes(f"{part}.{name}", norm, size))
    return shapes


def _latent_shapes(config: TransformerConfig, latent: LatentConfig) -> Shapes:
    attention, width, rope = config.attention, config.hidden_size, config.rope
    assert rope is not None, "latent attention turns a part of each key"
    heads, bias = attention.num_heads, attention.qkv_bias
    q_size, kept = heads * attention.head_dim, attention.head_dim - rope.rotary_dim
    queries = _linear_shapes("attention.q", q_size, width, False)
    if latent.q_rank is not None:
        queries = {
            **_linear_shapes("attention.q_a", latent.q_rank, width, bias),
            "attention.q_a_norm.weight": (latent.q_rank,),
            **_linear_shapes("attention.q_b", q_size, latent.q_rank, False),
        }
    return {
        **queries,
        **_linear_shapes("attention.kv_a", latent.kv_rank, width, bias),
        **_linear_shapes("attention.k_rope", rope.rotary_dim, width, bias),
        "attention.kv_a_norm.weight": (latent.kv_rank,),
        **_linear_shapes("attention.kv_b", heads * (kept + latent.value_dim), latent.kv_rank, False),
        **_linear_shapes("attention.o", width, heads * latent.value_dim, attention.output_bias),
    }


def _mlp_shapes(name: str, config: TransformerConfig, intermediate_size: int) -> Shapes:
    mlp, width = config.mlp, config.hidden_size
    return {
        **(_linear_shapes(f"{name}.gate", intermediate_size, width, mlp.bias is True) if mlp.gated else {}),
        **_linear_shapes(f"{name}.up", intermediate_size, width, mlp.bias is True),
        **({f"{name}.alpha_p": (1,), f"{name}.alpha_n": (1,)} if mlp.activation == "xielu" else {}),
        **_linear_shapes(f"{name}.down", width, intermediate_size, bool(mlp.bias)),
    }


def _moe_shapes(config: TransformerConfig, moe: MoeConfig) -> Shapes:
    shapes = _linear_shapes("mlp.router", moe.num_experts, config.hidden_size, moe.bias)
    if moe.correction:
        shapes["mlp.correction_bias"] = (moe.num_experts,)
    for expert in range(moe.num_experts):
        shapes.update(_mlp_shapes(f"mlp.experts.{expert}", config, moe.intermediate_size))
    if moe.shared_size is not None:
        shapes.update(_mlp_shapes("mlp.shared", config, moe.shared_size))
        if moe.shared_gate:
            shapes.update(_linear_shapes("mlp.shared_gate", 1, config.hidden_size, False))
    return shapes


def _linear_shapes(name: str, out: int, width: int, bias: bool) -> Shapes:
    return {f"{name}.weight": (out, width), **({f"{name}.bias": (out,)} if bias else {})}


def _norm_shapes(name: str, norm: NormConfig, width: int) -> Shapes:
    if norm.kind in BARE:
        return {}
    return {f"{name}.weight": (width,), **({f"{name}.bias": (width,)} if norm.kind == "layer" else {})}
