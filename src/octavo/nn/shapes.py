"""The parameters of a `TransformerConfig`, by canonical name and shape; matrices are (out, in). No torch here."""

from __future__ import annotations

from octavo.nn.config import TransformerConfig

Shapes = dict[str, tuple[int, ...]]


def parameter_shapes(config: TransformerConfig) -> Shapes:
    """Canonical name -> shape of every parameter, in the order of computation; a tied head is not among them."""
    width, vocab = config.hidden_size, config.vocab_size
    shapes: Shapes = {"embed_tokens.weight": (vocab, width)}
    if config.rope is None:
        shapes["embed_positions.weight"] = (config.context_length, width)
    for index in range(config.num_layers):
        shapes.update({f"blocks.{index}.{name}": shape for name, shape in _block_shapes(config).items()})
    shapes.update(_norm_shapes("norm", config))
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (vocab, width)
    return shapes


def _block_shapes(config: TransformerConfig) -> Shapes:
    attention, mlp, width = config.attention, config.mlp, config.hidden_size
    q_size, kv_size = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
    return {
        **_norm_shapes("attention_norm", config),
        **_linear_shapes("attention.q", q_size, width, attention.qkv_bias),
        **_linear_shapes("attention.k", kv_size, width, attention.qkv_bias),
        **_linear_shapes("attention.v", kv_size, width, attention.qkv_bias),
        **_linear_shapes("attention.o", width, q_size, attention.output_bias),
        **_norm_shapes("mlp_norm", config),
        **(_linear_shapes("mlp.gate", mlp.intermediate_size, width, mlp.bias) if mlp.gated else {}),
        **_linear_shapes("mlp.up", mlp.intermediate_size, width, mlp.bias),
        **_linear_shapes("mlp.down", width, mlp.intermediate_size, mlp.bias),
    }


def _linear_shapes(name: str, out: int, width: int, bias: bool) -> Shapes:
    return {f"{name}.weight": (out, width), **({f"{name}.bias": (out,)} if bias else {})}


def _norm_shapes(name: str, config: TransformerConfig) -> Shapes:
    shape = (config.hidden_size,)
    return {f"{name}.weight": shape, **({f"{name}.bias": shape} if config.norm.kind == "layer" else {})}
