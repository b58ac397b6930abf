"""Rotary frequencies against the peer's functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from octavo.nn.config import RopeConfig
from octavo.nn.frequencies import inverse_frequencies, linear_factors, llama3_factors

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def peer(head_dim: int, **rope: Any) -> np.ndarray[Any, Any]:
    config = LlamaConfig(hidden_size=head_dim, num_attention_heads=1, head_dim=head_dim, rope_parameters=rope)
    frequencies, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
    assert factor == 1
    result: np.ndarray[Any, Any] = frequencies.numpy()
    return result


@pytest.mark.parametrize("head_dim", [8, 64, 128])
@pytest.mark.parametrize("theta", [1e4, 5e5])
def test_scaled_frequencies_equal_the_peer(head_dim: int, theta: float) -> None:
    linear = RopeConfig(theta, head_dim, linear_factors(head_dim, 4))
    expected = peer(head_dim, rope_type="linear", rope_theta=theta, factor=4.0)
    assert np.allclose(inverse_frequencies(linear), expected, rtol=3e-6)
    factors = llama3_factors(theta, head_dim, factor=8, low=1, high=4, original=8192)
    expected = peer(head_dim, rope_type="llama3", rope_theta=theta, **LLAMA3)
    assert np.allclose(inverse_frequencies(RopeConfig(theta, head_dim, factors)), expected, rtol=3e-6)


def test_llama3_keeps_short_wavelengths_divides_long_ones_and_blends_between() -> None:
    factors = llama3_factors(5e5, 128, factor=8, low=1, high=4, original=8192)
    assert factors[0] == 1 and factors[-1] == 8
    assert list(factors) == sorted(factors) and any(1 < factor < 8 for factor in factors)


def test_plain_frequencies_are_powers_of_theta() -> None:
    assert np.allclose(inverse_frequencies(RopeConfig(16.0, 4)), [1, 0.25], rtol=1e-15)
