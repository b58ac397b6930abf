"""Inverse frequencies of rotary embedding (Su et al. 2021, arXiv 2104.09864), the scalings that stretch them, ALiBi.

Every scaling is a list of divisors (`RopeConfig.freq_factors`), so runners know one formula; two scalings choose theirs
by the sequence's length (`at_length`). No torch here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from octavo.nn.config import RopeConfig


def inverse_frequencies(rope: RopeConfig) -> NDArray[np.float64]:
    """(rotary_dim / 2,): radians a position of each pair of features."""
    exponents = np.arange(0, rope.rotary_dim, 2, dtype=np.float64) / rope.rotary_dim
    plain: NDArray[np.float64] = rope.theta**-exponents
    return plain if rope.freq_factors is None else plain / np.asarray(rope.freq_factors, np.float64)


def at_length(rope: RopeConfig, length: int) -> RopeConfig:
    """The rotary embedding of a sequence of `length` positions, which depends on no length any more.

    Longrope (Ding et al. 2024, arXiv 2402.13753) has a list of divisors for short and one for long sequences; dynamic
    NTK scaling (reddit users bloc97 and emozilla, 2023) raises the base so that the slowest pair turns no further
    in `length` positions than it did in the original ones.
    """
    plain = replace(rope, original_length=None, long_factors=None, ntk_factor=None)
    if rope.original_length is None or length <= rope.original_length:
        return plain
    if rope.ntk_factor is None:
        return replace(plain, freq_factors=rope.long_factors)
    stretch = rope.ntk_factor * length / rope.original_length - (rope.ntk_factor - 1)
    return replace(plain, theta=rope.theta * stretch ** (rope.rotary_dim / (rope.rotary_dim - 2)))


def linear_factors(rotary_dim: int, factor: float) -> tuple[float, ...]:
    """Position interpolation (Chen et al. 2023, arXiv 2306.15595): all frequencies divided by `factor`."""
    return (float(factor),) * (rotary_dim // 2)


def llama3_factors(
    theta: float, rotary_dim: int, *, factor: float, low: float, high: float, original: int
) -> tuple[float, ...]:
    """Llama 3.1's scaling: long wavelengths are divided by `factor`, short ones kept, those between blended.

    low, high: how many turns in `original` positions bound the blend.
    """
    return tuple(
        _llama3_divisor(2 * math.pi / frequency, factor, low, high, original)
        for frequency in inverse_frequencies(RopeConfig(theta, rotary_dim)).tolist()
    )


def yarn_factors(
    theta: float, rotary_dim: int, *, factor: float, fast: float, slow: float, original: int, truncate: bool
) -> tuple[float, ...]:
    """YaRN (Peng et al. 2023, arXiv 2309.00071): features that turn seldom are divided, fast ones kept, a ramp between.

    fast, slow: turns in `original` positions that bound the ramp. truncate: its ends are whole feature numbers.
    """

    def feature(turns: float) -> float:
        return rotary_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = feature(fast), feature(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    width = high - low or 0.001
    kept = [1 - min(max((index - low) / width, 0), 1) for index in range(rotary_dim // 2)]
    return tuple(1 / ((1 - keep) / factor + keep) for keep in kept)


def proportional_factors(head_dim: int, partial: float, factor: float) -> tuple[float, ...]:
    """Only the first pairs of the whole head turn, by a divisor; the others stand still, for theirs is infinite."""
    turning = int(partial * head_dim // 2)
    return (float(factor),) * turning + (math.inf,) * (head_dim // 2 - turning)


def longrope_attention_factor(factor: float, original: int) -> float:
    """By which longrope multiplies cos and sin, where the config does not say it."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))


def yarn_attention_factor(factor: float, mscale: float | None, mscale_all_dim: float | None) -> float:
    """By which YaRN multiplies cos and sin, where the config does not say it."""
    if mscale is not None and mscale_all_dim is not None:
        return yarn_scale(factor, mscale) / yarn_scale(factor, mscale_all_dim)
    return yarn_scale(factor, 1)


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """One a head (Press et al. 2021, arXiv 2108.12409): 2^(-8 i / n) for n heads.

    Where n is no power of 2, the odd ones of the next power fill up.
    """
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return (*slopes, *(2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)))


def yarn_scale(factor: float, mscale: float) -> float:
    """How far longer contexts want sharper attention."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1


def _llama3_divisor(wavelength: float, factor: float, low: float, high: float, original: int) -> float:
    if wavelength < original / high:
        return 1.0
    if wavelength > original / low:
        return float(factor)
    smooth = (original / wavelength - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)


def sine_table(length: int, width: int, first: int | None) -> NDArray[np.float32]:
    """(length, width): sines in place of positions (Vaswani et al. 2017, arXiv 1706.03762), then the cosines.

    Their frequencies fall from 1 towards 1 / 10000. first: where fairseq's begin, which reach it; None: the paper's.
    """
    half, fairseq = width // 2, first is not None
    frequencies = 10000.0 ** (-np.arange(half) / (half - fairseq))
    angles = (np.arange(length)[:, None] + (first or 0)) * frequencies
    return np.concatenate((np.sin(angles), np.cos(angles)), axis=-1).astype(np.float32)
