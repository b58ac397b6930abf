"""What a decoder costs, counted from its config: no weights are read and nothing is built.

A token costs two operations for each weight that it is multiplied with, and attention's on top, which grow with the
context; decoding it reads all those weights once, and the keys and values of the context. Of a mixture of experts only
the chosen few count. Source: Kaplan et al. 2020 (arXiv 2001.08361, table 1); Gholami et al. 2024 (arXiv 2403.14123).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from octavo.nn.config import TransformerConfig
from octavo.nn.encodings import BLOCK_FORMATS, Encoding, row_bytes
from octavo.nn.shapes import kept_key, parameter_shapes

Format = Literal["float32", "bfloat16", "int8", "int4"]
FORMATS: Final[dict[Format, Encoding]] = {"float32": "f32", "bfloat16": "bf16", "int8": "q8_0", "int4": "q4_0"}
"""How weights can be held. int8 and int4 are GGUF's blocks of 32 with a scale each: 8.5 and 4.5 bits a weight."""
TABLES: Final = ("embed_tokens.weight", "embed_positions.weight")
"""Parameters of which a token reads a row and multiplies none; a tied head makes the first a matrix like others."""


@dataclass(frozen=True)
class Parameters:
    """total: all. active: those that one token meets, which differ with experts. multiplied: active ones in products,
    a tied head included, and so the arithmetic of a token."""

    total: int
    active: int
    multiplied: int


def count_parameters(config: TransformerConfig) -> Parameters:
    """Exact counts; a tied head is counted once."""
    total, active, multiplied = 0, Fraction(), Fraction()
    for name, shape, share in _met(config):
        size = math.prod(shape)
        total += size
        active += size * share
        multiplied += size * share if len(shape) > 1 and _is_multiplied(name, config) else 0
    return Parameters(total, int(active), int(multiplied))


def flops_per_token(config: TransformerConfig, context: int) -> int:
    """Operations to decode one token that sees `context` positions, itself included; training takes three times it."""
    keys, latent = kept_key(config)[1], config.attention.latent
    values = keys if latent is None else latent.kv_rank
    scores = sum(positions_seen(config, context)) * config.attention.num_heads * (keys + values)
    return 2 * (count_parameters(config).multiplied + scores)


def kv_values_per_token(config: TransformerConfig) -> int:
    """Numbers that one position adds to the cache, keys and values of all layers."""
    return config.num_layers * _kv_values_of_a_layer(config)


def kv_values(config: TransformerConfig, context: int) -> int:
    """Numbers that decoding at `context` positions reads from the cache; a window's layer reads its window alone."""
    return sum(positions_seen(config, context)) * _kv_values_of_a_layer(config)


def positions_seen(config: TransformerConfig, context: int) -> list[int]:
    """For each layer, how many of `context` positions the last one sees."""
    return [min(context, config.window_of(layer) or context) for layer in range(config.num_layers)]


def weight_sizes(config: TransformerConfig, weights: Format) -> dict[str, int]:
    """Canonical name -> bytes of each parameter; vectors stay float32."""
    return {name: tensor_bytes(shape, FORMATS[weights]) for name, shape in parameter_shapes(config).items()}


def bytes_read(config: TransformerConfig, sizes: Mapping[str, int]) -> int:
    """Bytes of weights that decoding one token reads: all but tables that are not a head, and experts not chosen."""
    return int(sum(sizes[name] * share for name, _, share in _met(config) if _is_multiplied(name, config)))


def tensor_bytes(shape: tuple[int, ...], encoding: Encoding) -> int:
    """Bytes of one parameter. A matrix whose rows are not whole blocks stays bfloat16."""
    if len(shape) == 1:
        return row_bytes("f32", shape[0])
    whole = shape[-1] % BLOCK_FORMATS[encoding].weights == 0
    return math.prod(shape[:-1]) * row_bytes(encoding if whole else "bf16", shape[-1])


def _met(config: TransformerConfig) -> Iterator[tuple[str, tuple[int, ...], Fraction]]:
    """Each parameter with the share of it that a token meets: under 1 for experts, of which each token has a few."""
    moe, all_of_it = config.moe, Fraction(1)
    chosen = all_of_it if moe is None else Fraction(moe.experts_per_token, moe.num_experts)
    for name, shape in parameter_shapes(config).items():
        yield name, shape, chosen if ".experts." in name else all_of_it


def _is_multiplied(name: str, config: TransformerConfig) -> bool:
    return name not in TABLES or (config.tie_embeddings and name == TABLES[0])


def _kv_values_of_a_layer(config: TransformerConfig) -> int:
    heads, width = kept_key(config)
    return heads * width * (2 if config.attention.latent is None else 1)  # values lie in keys that are latent
