"""The spellings of rotary embedding in hub configs, read and written.

Read: `rope_parameters` (transformers 5), and top-level `rope_theta` with `rope_scaling` by `type` or `rope_type`.
Written: the older spelling, which every reader knows. Divisors that are neither linear nor Llama 3's are written as
longrope with equal short and long lists, which means the same without loss.
"""

from __future__ import annotations

from typing import Any

from octavo.errors import UnsupportedError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.nn.config import RopeConfig
from octavo.nn.frequencies import linear_factors, llama3_factors

KINDS = {"default": "default", "linear": "linear", "llama3": "llama3", "longrope": "longrope", "su": "longrope"}
LLAMA3_ORIGINALS = tuple(2**power for power in range(5, 18))


def read_rope(reader: ConfigReader, head_dim: int, context_length: int) -> RopeConfig:
    """The rotary part of a config. Raises UnsupportedError for a scaling that is not constant divisors."""
    section = reader.section("rope_parameters", "rope_scaling")
    theta_at = section if section is not None and section.has("rope_theta") else reader
    if theta_at is section and reader.has("rope_theta"):
        reader.number("rope_theta")  # both spellings, as some exporters write: the section wins in peers
    theta = theta_at.number("rope_theta", default=10000.0)
    partial_at = section if section is not None and section.has("partial_rotary_factor") else reader
    partial = partial_at.number("partial_rotary_factor", default=1.0)
    rotary_dim = int(head_dim * partial + 1e-6)  # as peers cut it, but for the rounding of the product
    if rotary_dim % 2 or not 2 <= rotary_dim <= head_dim:
        raise UnsupportedError(
            f"{reader.source} asks for rotary embedding of {rotary_dim} of a head's {head_dim} features; "
            "it must be an even number of them",
            param="partial_rotary_factor",
        )
    factors = None if section is None else _factors(section, reader, theta, rotary_dim, context_length)
    return RopeConfig(theta, rotary_dim, factors)


def _factors(
    section: ConfigReader, reader: ConfigReader, theta: float, rotary_dim: int, context_length: int
) -> tuple[float, ...] | None:
    kind = section.choice("rope_type", "type", table=KINDS, default="default")
    if kind == "default":
        return None
    if kind == "linear":
        return linear_factors(rotary_dim, section.number("factor"))
    original_at = section if section.has("original_max_position_embeddings") else reader
    original = original_at.integer("original_max_position_embeddings", default=context_length)
    if kind == "longrope":
        return _equal_lists(section, rotary_dim)
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if low >= high:
        raise UnsupportedError(f"{reader.source} has low_freq_factor {low} not below high_freq_factor {high}")
    return llama3_factors(theta, rotary_dim, factor=section.number("factor"), low=low, high=high, original=original)


def _equal_lists(section: ConfigReader, rotary_dim: int) -> tuple[float, ...]:
    """Longrope whose two lists are one and whose attention factor is 1; true longrope changes with the length."""
    short, long = section.numbers("short_factor", rotary_dim // 2), section.numbers("long_factor", rotary_dim // 2)
    if short != long or section.number("attention_factor", default=0.5) != 1:
        raise UnsupportedError(
            f"{section.source} has rope_type longrope with lists that change with the length, which is not supported",
            param="rope_type",
        )
    return short


def write_rope(rope: RopeConfig, head_dim: int, context_length: int) -> dict[str, Any]:
    """Config keys that `read_rope` reads to the same RopeConfig."""
    written: dict[str, Any] = {"rope_theta": rope.theta, "rope_scaling": _scaling(rope, context_length)}
    if rope.rotary_dim != head_dim:
        written["partial_rotary_factor"] = rope.rotary_dim / head_dim
    return written


def _scaling(rope: RopeConfig, context_length: int) -> dict[str, Any] | None:
    factors = rope.freq_factors
    if factors is None:
        return None
    factor = max(factors)
    if min(factors) == factor:
        return {"rope_type": "linear", "factor": factor}
    for original in LLAMA3_ORIGINALS:
        made = llama3_factors(rope.theta, rope.rotary_dim, factor=factor, low=1.0, high=4.0, original=original)
        if made == factors:
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }
    return {
        "rope_type": "longrope",
        "short_factor": list(factors),
        "long_factor": list(factors),
        "attention_factor": 1.0,
        "original_max_position_embeddings": context_length,
    }
