"""What hub configs of decoders share, read and written once: a family's row adds its own switches.

Most families spell their config as LLaMA does; where one differs, its row says how in the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.errors import FormatError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.rope import PLAIN_ROPE, RopeSpelling, extended_length, read_rope, trained_length, write_rope
from octavo.models.mapping.tables.spellings import ACTIVATIONS, FULL, HUB_ACTIVATIONS, SLIDING
from octavo.nn.config import AttentionConfig, MlpConfig, MoeConfig, NormConfig, TransformerConfig


def read_decoder(
    reader: ConfigReader,
    norm: NormConfig,
    *,
    gated: bool = True,
    tie: bool = False,
    head_dim: int | None = None,
    activation: str = "silu",
    activation_key: str = "hidden_act",
    rope: RopeSpelling = PLAIN_ROPE,
) -> TransformerConfig:
    """A hub config to switches, without biases. tie, head_dim, activation: where the config does not say."""
    hidden_size = reader.integer("hidden_size")
    attention = read_attention(reader, hidden_size, head_dim)
    trained = reader.integer("max_position_embeddings")
    rotary = read_rope(reader, attention.head_dim, trained, rope)
    return TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=hidden_size,
        num_layers=reader.integer("num_hidden_layers", high=4096),
        context_length=extended_length(rotary, trained),
        norm=norm,
        attention=attention,
        mlp=MlpConfig(
            intermediate_size=reader.integer("intermediate_size"),
            activation=reader.choice(activation_key, table=ACTIVATIONS, default=activation),
            gated=gated,
        ),
        rope=rotary,
        tie_embeddings=reader.flag("tie_word_embeddings", default=tie),
    )


def rms(reader: ConfigReader, *, offset: bool = False, round_last: bool = False) -> NormConfig:
    """RMSNorm of the config's epsilon."""
    return NormConfig("rms", reader.number("rms_norm_eps"), offset, round_last)


def read_attention(reader: ConfigReader, hidden_size: int, head_dim: int | None) -> AttentionConfig:
    """Heads and their width; head_dim None: hidden_size shared out, where the config does not say."""
    num_heads = reader.integer("num_attention_heads", high=65536)
    num_kv_heads = reader.integer("num_key_value_heads", default=num_heads, high=65536)
    if num_heads % num_kv_heads:
        raise FormatError(
            f"{reader.source} has {num_heads} attention heads, not a multiple of its {num_kv_heads} key-value heads",
            param="num_key_value_heads",
        )
    if head_dim is None and not reader.has("head_dim"):
        head_dim = reader.shared_out(hidden_size, num_heads, "num_attention_heads")
    return AttentionConfig(num_heads, num_kv_heads, reader.integer("head_dim", default=head_dim or 1, high=65536))


def with_attention(config: TransformerConfig, **switches: Any) -> TransformerConfig:
    """The config with some switches of its attention changed."""
    return replace(config, attention=replace(config.attention, **switches))


def with_biases(config: TransformerConfig, *, qkv: bool, output: bool, mlp: bool = False) -> TransformerConfig:
    """The config with biases in its linear layers."""
    config = replace(config, mlp=replace(config.mlp, bias=mlp))
    return with_attention(config, qkv_bias=qkv, output_bias=output)


def read_layer_types(reader: ConfigReader, num_layers: int, slides: Callable[[int], bool]) -> tuple[bool, ...]:
    """Which blocks have a sliding window: `layer_types`, else as `slides` says of a block's number."""
    if reader.has("layer_types"):
        return reader.entries("layer_types", num_layers, table={FULL: False, SLIDING: True})
    return tuple(slides(layer) for layer in range(num_layers))


def layer_types(slides: tuple[bool, ...]) -> list[str]:
    """`layer_types` as a hub config has them."""
    return [SLIDING if slide else FULL for slide in slides]


def with_windows(config: TransformerConfig, slides: tuple[bool, ...], size: int | None) -> TransformerConfig:
    """The config with a window of `size` in the blocks that slide; one as large as the context changes nothing."""
    if size is None or size >= config.context_length or not any(slides):
        return config
    return replace(config, windows=tuple(size if slide else None for slide in slides))


def window_size(config: TransformerConfig) -> int | None:
    """The size of the config's windows, None where no block has one. All windows are of one size."""
    sizes = {window for window in config.windows if window is not None}
    assert len(sizes) <= 1, "hub configs have one size of windows"
    return sizes.pop() if sizes else None


def window_keys(config: TransformerConfig) -> dict[str, Any]:
    """The size of the config's windows and which blocks have one, as hub configs have them."""
    slides = tuple(config.window_of(layer) is not None for layer in range(config.num_layers))
    return {"sliding_window": window_size(config), "layer_types": layer_types(slides)}


def write_decoder(config: TransformerConfig) -> dict[str, Any]:
    """Switches to the keys that `read_decoder` reads; the row adds its own."""
    rope, attention = config.rope, config.attention
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": attention.num_heads,
        "num_key_value_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "max_position_embeddings": trained_length(rope, config.context_length),
        "rms_norm_eps" if config.norm.kind.startswith("rms") else "layer_norm_eps": config.norm.eps,
        "hidden_act": HUB_ACTIVATIONS[config.mlp.activation],
        "tie_word_embeddings": config.tie_embeddings,
        **({} if rope is None else write_rope(rope, attention.head_dim, config.context_length)),
    }


def read_experts(
    reader: ConfigReader, num_layers: int, *, size_key: str, normalise: bool, shared_size: int | None = None
) -> MoeConfig:
    """The experts of a config; blocks in `mlp_only_layers`, and all but each `decoder_sparse_step`-th, have none."""
    num_experts = reader.integer("num_experts", "num_local_experts", high=65536)
    every = reader.integer("decoder_sparse_step", default=1)
    plain = reader.indices("mlp_only_layers", num_layers)
    layers = tuple(layer not in plain and (layer + 1) % every == 0 for layer in range(num_layers))
    chosen = reader.integer("num_experts_per_tok", high=num_experts)
    return MoeConfig(num_experts, chosen, reader.integer(size_key), normalise, shared_size, layers)
