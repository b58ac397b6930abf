"""Sampling stages against the live `transformers` processors, and the draw against the exact distribution."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octavo.errors import OctavoError
from octavo.generate.lm import Sampling
from octavo.generate.sample import Sampler, draw, log_softmax, truncated
from octavo.generate.sample.bias import add_bias
from octavo.generate.sample.draw import chunk_sums, level_of_sums, log_total
from octavo.generate.sample.penalties import penalise_presence, penalise_repetition
from octavo.generate.sample.truncation import keep_top_k, keep_top_p

torch = pytest.importorskip("torch")
processors = pytest.importorskip("transformers.generation.logits_process")

DRAWING = sys.modules["octavo.generate.sample.draw"]  # the room's `draw` is the function
CUTTING = sys.modules["octavo.generate.sample.truncation"]
seeds = st.integers(0, 2**32 - 1)


def random_logits(seed: int, size: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3, size=size).astype(np.float32)


@settings(deadline=None, max_examples=60)
@example(0, 2.0, 0, 0.984375, 0.0, 700)  # what is kept reaches further down than most of the vocabulary
@given(
    seeds,
    st.floats(0.1, 2),
    st.integers(0, 220),
    st.floats(0.01, 1),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.sampled_from([200, 700]),
)
def test_temperature_and_cuts_equal_transformers(
    seed: int, temperature: float, k: int, p: float, min_p: float, size: int
) -> None:
    logits = random_logits(seed, size)
    chain = [processors.TemperatureLogitsWarper(temperature)]
    if k:
        chain.append(processors.TopKLogitsWarper(k))
    if p < 1:
        chain.append(processors.TopPLogitsWarper(p))
    if min_p:
        chain.append(processors.MinPLogitsWarper(min_p))
    expected = torch.tensor(logits)[None]
    for stage in chain:
        expected = stage(None, expected)
    actual = truncated(logits, Sampling(temperature=temperature, top_k=k, top_p=p, min_p=min_p))
    kept = np.isfinite(expected[0].numpy())
    differ = kept != np.isfinite(actual)
    assert differ.sum() <= 1  # a sum that ends within rounding of p may fall on either side
    assert np.allclose(actual[kept & ~differ], expected[0].numpy()[kept & ~differ], rtol=1e-5)


@given(seeds, st.floats(0.05, 0.99), st.sampled_from([0, 30]))
def test_typical_p_equals_transformers(seed: int, p: float, k: int) -> None:
    logits = random_logits(seed)
    expected = torch.tensor(logits)[None]
    cuts = [processors.TopKLogitsWarper(k)] if k else []
    for stage in [*cuts, processors.TypicalLogitsWarper(mass=p)]:
        expected = stage(None, expected)
    kept = np.isfinite(expected[0].numpy())
    actual = truncated(logits, Sampling(top_k=k, typical_p=p))
    assert (kept != np.isfinite(actual)).sum() <= 1  # a sum that ends within rounding of p may fall on either side


@given(seeds, st.lists(st.integers(0, 199), min_size=1), st.floats(0.5, 2))
def test_repetition_penalty_equals_transformers(seed: int, seen: list[int], penalty: float) -> None:
    logits = random_logits(seed)
    stage = processors.RepetitionPenaltyLogitsProcessor(penalty)
    expected = stage(torch.tensor([seen]), torch.tensor(logits)[None].clone())[0].numpy()
    actual = penalise_repetition(logits, np.array(sorted(set(seen))), penalty)
    assert np.allclose(actual, expected, rtol=1e-6)


def test_presence_and_frequency_follow_openais_formula() -> None:
    logits = np.zeros(5, np.float32)
    changed = penalise_presence(logits, np.array([1, 3]), np.array([1, 4], np.float32), 0.5, 0.25)
    assert changed.tolist() == [0, -0.75, 0, -1.5, 0]
    assert logits.tolist() == [0] * 5


def test_bias_of_minus_100_forbids_and_100_forces() -> None:
    logits = random_logits(0)
    best = int(logits.argmax())
    assert Sampler(Sampling(temperature=0, logit_bias={best: -100}), []).choose(logits) != best
    assert Sampler(Sampling(temperature=0, logit_bias={7: 100}), []).choose(logits) == 7
    assert add_bias(logits, {3: 1.5})[3] == np.float32(logits[3] + np.float32(1.5))


@pytest.mark.parametrize("size", [1, 15, 16, 255, 256, 257, 1000, 49152])
def test_sums_of_weights_in_c_equal_those_of_numpy(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if level_of_sums() is None:
        pytest.skip("the kernels are not built")
    logits = random_logits(size, size)
    logits[1::7] = -np.inf
    for temperature in (1.0, 0.1, 1.7):
        largest, sums = chunk_sums(logits, temperature)
        with monkeypatch.context() as patched:
            patched.setattr(DRAWING, "level_of_sums", lambda: None)
            assert chunk_sums(logits, temperature)[0] == largest == logits.max()
            assert np.allclose(sums, chunk_sums(logits, temperature)[1], rtol=2e-6)
    assert abs(log_total(logits) - (logits.max() - log_softmax(logits).max())) < 1e-6


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([1, 16, 255, 257, 1000, 20_000]), seeds, st.floats(0.05, 3), st.floats(0.01, 1), st.floats(0.05, 9)
)
def test_cuts_and_draws_in_c_equal_those_of_numpy(
    size: int, seed: int, temperature: float, p: float, scale: float
) -> None:
    if level_of_sums() is None:
        pytest.skip("the kernels are not built")
    logits = (random_logits(seed, size) / 3 * np.float32(scale)).astype(np.float32)
    logits[seed % 3 :: 5] = -np.inf
    logits[seed % size] = scale  # one at least can be drawn
    in_c = keep_top_p(logits, p, temperature), [draw(logits, np.random.default_rng(i), temperature) for i in range(9)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DRAWING, "level_of_sums", lambda: None)
        patched.setattr(CUTTING, "level_of_sums", lambda: None)
        kept, drawn = (
            keep_top_p(logits, p, temperature),
            [draw(logits, np.random.default_rng(i), temperature) for i in range(9)],
        )
    weights = np.exp((logits - logits.max()) / np.float64(temperature))
    reached = np.cumsum(weights)
    either = list({*in_c[0].tolist()} ^ {*kept.tolist()})  # a sum within rounding of p may fall on either side
    assert weights[either].sum() <= 1e-5 * reached[-1] or len(either) == 1
    assert (np.diff(weights[in_c[0]]) <= 1e-6).all()
    for one, other in zip(in_c[1], drawn, strict=True):  # where they differ, what lies between weighs nothing
        assert np.isfinite(logits[one])
        assert abs(reached[one] - reached[other]) <= 1e-5 * reached[-1] or one == other


@given(seeds, st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([0, 1, 2]))
def test_the_k_largest_are_found_whatever_the_sample_of_them_says(seed: int, size: int, k: int, digits: int) -> None:
    logits = random_logits(seed, size).round(digits)
    logits[:: 1 + seed % 40] += (seed % 3 - 1) * 20  # the sample lies
    wanted = np.flatnonzero(logits >= np.sort(logits)[::-1][min(k, size) - 1])
    assert keep_top_k(logits, k).tolist() == wanted.tolist()


@pytest.mark.parametrize("in_c", [False, True])
def test_draws_have_the_exact_distribution(in_c: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_c:
        monkeypatch.setattr(DRAWING, "level_of_sums", lambda: None)
    elif level_of_sums() is None:
        pytest.skip("the kernels are not built")
    logits = np.log(np.array([0.5, 0.0001, 0.3, 0.1999], np.float32))
    logits[1] = -np.inf
    random = np.random.default_rng(0)
    counts = np.bincount([draw(logits, random) for _ in range(20_000)], minlength=4)
    expected = 20_000 * np.exp(log_softmax(logits))
    assert counts[1] == 0
    alive = expected > 0
    chi_squared = ((counts[alive] - expected[alive]) ** 2 / expected[alive]).sum()
    assert chi_squared < 13.8  # 0.1 % for two degrees of freedom


@given(seeds)
def test_a_seed_gives_the_same_tokens_and_penalties_change_them(seed: int) -> None:
    logits = [random_logits(seed + i) for i in range(20)]
    tokens = [[sampler.choose(row) for row in logits] for sampler in (Sampler(Sampling(seed=1), []) for _ in range(2))]
    assert tokens[0] == tokens[1]
    greedy = Sampler(Sampling(temperature=0, frequency_penalty=2), [])
    assert len({greedy.choose(logits[0]) for _ in range(50)}) > 1


@pytest.mark.parametrize("temperature", [1e-7, 1e-39, 1e-300])
def test_the_coldest_temperatures_are_greedy(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature, seed=0), [])
    for seed in range(20):
        logits = 10 * random_logits(seed)
        assert sampler.choose(logits) == logits.argmax()


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 1.5}, {"top_k": -1}, {"seed": -1},
        {"repetition_penalty": 0}, {"repetition_penalty": 1e-300}, {"repetition_penalty": 1e300},
    ],
)  # fmt: skip
def test_values_outside_their_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(OctavoError, match=next(iter(wrong))):
        Sampling(**wrong)
