"""The spellings of rotary embedding in hub configs, read and written.

Read: `rope_parameters` (transformers 5), and top-level `rope_theta` with `rope_scaling` by `type` or `rope_type`.
Written: the older spelling, which every reader knows. Divisors that are none of linear, Llama 3's, proportional and
plain YaRN are written as longrope with equal short and long lists, which means the same without loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from octavo.errors import UnsupportedError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.tables.class_defaults import LLAMA3_SCALING
from octavo.models.mapping.tables.spellings import FULL, ROPE_KINDS, SLIDING
from octavo.nn.config import RopeConfig
from octavo.nn.frequencies import (
    linear_factors,
    llama3_factors,
    longrope_attention_factor,
    proportional_factors,
    yarn_attention_factor,
    yarn_factors,
)

ORIGINALS = tuple(2**power for power in range(5, 18))
"""Trained lengths that scalings are found again by."""


@dataclass(frozen=True)
class RopeSpelling:
    """Top-level names of the base and of the part of a head that turns, and their values where nothing says them.

    blocks: which of two embeddings this is, in a config that has one for blocks that see all and one for those with a
    window; `rope_parameters` may have a section for each, and else is of the first.
    """

    theta: float = 10000.0
    partial: float = 1.0
    theta_key: str = "rope_theta"
    partial_key: str = "partial_rotary_factor"
    blocks: str | None = None


PLAIN_ROPE = RopeSpelling()


def read_rope(
    reader: ConfigReader, head_dim: int, context_length: int, spelling: RopeSpelling = PLAIN_ROPE
) -> RopeConfig:
    """The rotary part of a config. Raises UnsupportedError for a scaling that is not known."""
    section = reader.section("rope_parameters", "rope_scaling")
    if spelling.blocks is not None:
        nested = section is not None and (section.has(FULL) or section.has(SLIDING))
        if section is not None and nested:
            section = section.section(spelling.blocks)
        elif spelling.blocks == SLIDING:
            section = None
    theta = _either(section, reader, "rope_theta", spelling.theta_key, spelling.theta)
    partial = _either(section, reader, "partial_rotary_factor", spelling.partial_key, spelling.partial)
    if section is not None and section.raw.get("rope_type") == "proportional":
        divisors = proportional_factors(head_dim, partial, section.number("factor", default=1.0))
        section.choice("rope_type", table=ROPE_KINDS)
        return RopeConfig(theta, head_dim, divisors)
    rotary_dim = int(head_dim * partial + 1e-6)  # as peers cut it, but for the rounding of the product
    if rotary_dim % 2 or not 2 <= rotary_dim <= head_dim:
        raise UnsupportedError(
            f"{reader.source} asks for rotary embedding of {rotary_dim} of a head's {head_dim} features; "
            "it must be an even number of them",
            param="partial_rotary_factor",
        )
    plain = RopeConfig(theta, rotary_dim)
    return plain if section is None else _scaled(plain, section, reader, context_length)


def _either(section: ConfigReader | None, reader: ConfigReader, key: str, top_key: str, default: float) -> float:
    """A number of the section, else of the top level; where both say it, the section wins, as in peers."""
    top = reader.number(top_key, default=default)
    return top if section is None else section.number(key, default=top)


def _scaled(plain: RopeConfig, section: ConfigReader, reader: ConfigReader, context_length: int) -> RopeConfig:
    kind = section.choice("rope_type", "type", table=ROPE_KINDS, default="default")
    section.skip("mrope_section", "mrope_interleaved")  # of images: three positions of text are one
    if kind == "default":
        return plain
    if kind == "linear":
        return replace(plain, freq_factors=linear_factors(plain.rotary_dim, section.number("factor")))
    if kind == "dynamic" and section.has("alpha"):  # as dynamic says its name, fixed
        section.skip("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
        stretch = section.number("alpha") ** (plain.rotary_dim / (plain.rotary_dim - 2))
        return replace(plain, theta=plain.theta * stretch)
    if kind == "dynamic":
        return replace(plain, original_length=context_length, ntk_factor=section.number("factor"))
    original_at = section if section.has("original_max_position_embeddings") else reader
    original = original_at.integer("original_max_position_embeddings", default=context_length)
    if kind == "longrope":
        return _longrope(plain, section, original, context_length)
    if kind == "yarn":
        return _yarn(plain, section, original, context_length)
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if low >= high:
        raise UnsupportedError(f"{reader.source} has low_freq_factor {low} not below high_freq_factor {high}")
    factor = section.number("factor")
    factors = llama3_factors(plain.theta, plain.rotary_dim, factor=factor, low=low, high=high, original=original)
    return replace(plain, freq_factors=factors)


def _yarn(plain: RopeConfig, section: ConfigReader, original: int, context_length: int) -> RopeConfig:
    factor = section.number("factor", default=context_length / original)
    factors = yarn_factors(
        plain.theta,
        plain.rotary_dim,
        factor=factor,
        fast=section.number("beta_fast", default=32.0),
        slow=section.number("beta_slow", default=1.0),
        original=original,
        truncate=section.flag("truncate", default=True),
    )
    mscale = [section.number(key) if section.has(key) else None for key in ("mscale", "mscale_all_dim")]
    attention = section.number("attention_factor", default=yarn_attention_factor(factor, *mscale))
    return replace(plain, freq_factors=factors, attention_factor=attention)


def _longrope(plain: RopeConfig, section: ConfigReader, original: int, context_length: int) -> RopeConfig:
    count = plain.rotary_dim // 2
    short, long = section.numbers("short_factor", count), section.numbers("long_factor", count)
    factor = section.number("factor", default=context_length / original)
    attention = section.number("attention_factor", default=longrope_attention_factor(factor, original))
    plain = replace(plain, freq_factors=short, attention_factor=attention)
    return plain if short == long else replace(plain, original_length=original, long_factors=long)


def extended_length(rope: RopeConfig | None, trained: int) -> int:
    """How long a context may be: dynamic scaling is made to go past the trained length, by its factor."""
    return trained if rope is None or rope.ntk_factor is None else round(trained * rope.ntk_factor)


def trained_length(rope: RopeConfig | None, context_length: int) -> int:
    """The inverse of `extended_length`."""
    dynamic = rope is not None and rope.ntk_factor is not None
    return rope.original_length if dynamic and rope is not None and rope.original_length else context_length


def write_rope(rope: RopeConfig, head_dim: int, context_length: int) -> dict[str, Any]:
    """Config keys that `read_rope` reads to the same RopeConfig."""
    written: dict[str, Any] = {"rope_theta": rope.theta, "rope_scaling": _scaling(rope, context_length)}
    if rope.rotary_dim != head_dim:
        written["partial_rotary_factor"] = rope.rotary_dim / head_dim
    return written


def _scaling(rope: RopeConfig, context_length: int) -> dict[str, Any] | None:
    if rope.ntk_factor is not None:
        return {"rope_type": "dynamic", "factor": rope.ntk_factor}
    factors = rope.freq_factors
    if factors is None:
        return None
    factor = max(factors)
    if factor == math.inf:
        partial = sum(each < factor for each in factors) / len(factors)
        return {"rope_type": "proportional", "factor": min(factors), "partial_rotary_factor": partial}
    if min(factors) == factor and rope.attention_factor == 1:
        return {"rope_type": "linear", "factor": factor}
    for original in ORIGINALS:
        made = llama3_factors(rope.theta, rope.rotary_dim, factor=factor, low=1.0, high=4.0, original=original)
        if made == factors and rope.attention_factor == 1:
            return {**LLAMA3_SCALING, "factor": factor, "original_max_position_embeddings": original}
    return yarn_of(rope) or {
        "rope_type": "longrope",
        "short_factor": list(factors),
        "long_factor": list(rope.long_factors or factors),
        "attention_factor": rope.attention_factor,
        "original_max_position_embeddings": rope.original_length or context_length,
    }


def yarn_of(rope: RopeConfig) -> dict[str, Any] | None:
    """The plain YaRN that makes these frequencies, as a config says it; None where none of the usual ones does."""
    if rope.freq_factors is None or rope.long_factors is not None:
        return None
    factor = max(rope.freq_factors)
    if factor == math.inf or rope.attention_factor != yarn_attention_factor(factor, None, None):
        return None
    for original in ORIGINALS:
        for truncate in (True, False):
            made = yarn_factors(
                rope.theta, rope.rotary_dim, factor=factor, fast=32.0, slow=1.0, original=original, truncate=truncate
            )
            if made == rope.freq_factors:
                said = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
                return said if truncate else {**said, "truncate": False}
    return None
