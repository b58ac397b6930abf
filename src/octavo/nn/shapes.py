"""The parameters of a `TransformerConfig`, by canonical name and shape; matrices are (out, in). No torch here."""

from __future__ import annotations

from octavo.nn.config import AttentionConfig, NormConfig, TransformerConfig

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: TransformerConfig) -> Shapes:
    """Canonical name -> shape of every parameter, in the order of computation; a tied head is not among them."""
    width, vocab = config.hidden_size, config.vocab_size
    shapes: Shapes = {"embed_tokens.weight": (vocab, width)}
    if config.learned_positions:
        shapes["embed_positions.weight"] = (config.context_length, width)
    for index in range(config.num_layers):
        shapes.update({f"blocks.{index}.{name}": shape for name, shape in _block_shapes(config).items()})
    shapes.update(_norm_shapes("norm", config.norm, width))
    if not config.tie_embeddings:
        shapes.update(_linear_shapes("lm_head", vocab, width, config.head_bias))
    return shapes


def block_norms(config: TransformerConfig) -> tuple[str, ...]:
    """The norms of one block, by canonical name."""
    return {
        "pre": ("attention_norm", "mlp_norm"),
        "output": ("attention_output_norm", "mlp_output_norm"),
        "sandwich": ("attention_norm", "attention_output_norm", "mlp_norm", "mlp_output_norm"),
        "parallel": ("attention_norm",),
        "parallel_two": ("attention_norm", "mlp_norm"),
    }[config.placement]


def qk_norm_widths(attention: AttentionConfig) -> dict[str, int]:
    """The norms of q and k and the length of their weights; empty without them."""
    if attention.qk_norm is None:
        return {}
    heads = {"q_norm": attention.num_heads, "k_norm": attention.num_kv_heads}
    one = attention.qk_norm == "head"
    return {name: attention.head_dim * (1 if one else count) for name, count in heads.items()}


def _block_shapes(config: TransformerConfig) -> Shapes:
    width, norms = config.hidden_size, block_norms(config)
    shapes: Shapes = {}
    for part, sublayer in (("attention", _attention_shapes(config)), ("mlp", _mlp_shapes(config))):
        for name in (f"{part}_norm", "", f"{part}_output_norm"):
            shapes.update(sublayer if not name else _norm_shapes(name, config.norm, width) if name in norms else {})
    return shapes


def _attention_shapes(config: TransformerConfig) -> Shapes:
    attention, width = config.attention, config.hidden_size
    q_size, kv_size = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
    shapes = {
        **_linear_shapes("attention.q", q_size, width, attention.qkv_bias),
        **_linear_shapes("attention.k", kv_size, width, attention.qkv_bias),
        **_linear_shapes("attention.v", kv_size, width, attention.qkv_bias),
        **_linear_shapes("attention.o", width, q_size, attention.output_bias),
    }
    for name, size in qk_norm_widths(attention).items():
        shapes.update(_norm_shapes(f"attention.{name}", config.norm, size))
    return shapes


def _mlp_shapes(config: TransformerConfig) -> Shapes:
    mlp, width = config.mlp, config.hidden_size
    return {
        **(_linear_shapes("mlp.gate", mlp.intermediate_size, width, mlp.bias) if mlp.gated else {}),
        **_linear_shapes("mlp.up", mlp.intermediate_size, width, mlp.bias),
        **_linear_shapes("mlp.down", width, mlp.intermediate_size, mlp.bias),
    }


def _linear_shapes(name: str, out: int, width: int, bias: bool) -> Shapes:
    return {f"{name}.weight": (out, width), **({f"{name}.bias": (out,)} if bias else {})}


def _norm_shapes(name: str, norm: NormConfig, width: int) -> Shapes:
    return {f"{name}.weight": (width,), **({f"{name}.bias": (width,)} if norm.kind == "layer" else {})}
