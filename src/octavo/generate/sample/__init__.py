"""From logits to the next token, in one documented order.

The mask of a constraint; logit bias, repetition, presence and frequency penalties; then, unless greedy: temperature,
top-k, top-p, min-p, typical-p, draw. The order is that of the `transformers` library. The mask comes first, so that the
cuts are made among what is allowed. Log-probabilities are reported of the model's own logits, before all this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.generate.lm import Sampling
from octavo.generate.sample.bias import add_bias
from octavo.generate.sample.draw import draw, draw_weighted
from octavo.generate.sample.mask import keep_allowed
from octavo.generate.sample.penalties import penalise_presence, penalise_repetition
from octavo.generate.sample.temperature import apply_temperature
from octavo.generate.sample.truncation import keep_min_p, keep_top_k, keep_top_p, keep_typical_p

Guess = tuple[int, NDArray[np.float64]]
"""A token, and the probabilities (vocab_size,) that it was drawn from."""


class Sampler:
    """Chooses one sequence's tokens. Keeps what the penalties need and the sequence's own random numbers."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int]) -> None:
        self.sampling = sampling
        self._random = np.random.default_rng(sampling.seed) if sampling.temperature > 0 else None
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else set()
        self._counts: Counter[int] = Counter()

    def choose(
        self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None, guesses: Sequence[Guess] = ()
    ) -> int:
        """Pick the next token from its logits (vocab_size,) and remember it. allowed: (vocab_size,), at least one.

        guesses: tokens that were drawn from other probabilities, each after those before it had been refused; they are
        picked as often as may be (Leviathan et al. 2023, arXiv 2211.17192; several of them: Miao et al. 2023, arXiv
        2305.09781), and what is picked has the distribution that it has without them.
        """
        if allowed is not None:
            logits = keep_allowed(logits, allowed)
        logits = self._penalised(logits)
        if self._random is None:
            token = int(logits.argmax())
        elif not guesses:
            token = drawn(logits, self.sampling, self._random)
        else:
            token = judged(guesses, probabilities(logits, self.sampling), self._random)
        self._counts[token] += 1
        self._seen.add(token)
        return token

    def _penalised(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        chosen = self.sampling
        if chosen.logit_bias:
            logits = add_bias(logits, chosen.logit_bias)
        if chosen.repetition_penalty != 1:
            seen = np.fromiter(self._seen, np.int64, len(self._seen))
            logits = penalise_repetition(logits, seen, chosen.repetition_penalty)
        if (chosen.presence_penalty or chosen.frequency_penalty) and self._counts:
            ids = np.fromiter(self._counts, np.int64, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            logits = penalise_presence(logits, ids, counts, chosen.presence_penalty, chosen.frequency_penalty)
        return logits


def drawn(logits: NDArray[np.float32], sampling: Sampling, random: np.random.Generator) -> int:
    """A token of the distribution that `sampling` makes of the logits, (vocab_size,), temperature > 0."""
    if not (sampling.top_k or sampling.top_p < 1 or sampling.min_p or sampling.typical_p < 1):
        return draw(logits, random, sampling.temperature)
    ids, kept = cut(logits, sampling)
    index = draw(kept, random)
    return index if ids is None else int(ids[index])


def cut(logits: NDArray[np.float32], sampling: Sampling) -> tuple[NDArray[np.integer] | None, NDArray[np.float32]]:
    """Temperature and the cuts that `sampling` asks for, temperature > 0. logits: (vocab_size,).

    Returns the ids that are left, None for all, and their logits.
    """
    ids: NDArray[np.integer] | None = None

    def keep(kept: NDArray[np.integer]) -> None:
        nonlocal ids, logits
        ids, logits = (kept if ids is None else ids[kept]), logits[kept]

    if sampling.top_k:  # both before the temperature, which changes no order: so it has few to divide
        keep(keep_top_k(logits, sampling.top_k))
    if sampling.top_p < 1:
        keep(keep_top_p(logits, sampling.top_p, sampling.temperature))
    logits = apply_temperature(logits, sampling.temperature)
    if sampling.min_p:
        keep(keep_min_p(logits, sampling.min_p))
    if sampling.typical_p < 1:
        keep(keep_typical_p(logits, sampling.typical_p))
    return ids, logits


def truncated(logits: NDArray[np.float32], sampling: Sampling) -> NDArray[np.float32]:
    """The logits after `cut`, (vocab_size,), with -inf for the ids that are cut away."""
    ids, kept = cut(logits, sampling)
    if ids is None:
        return kept
    result = np.full_like(logits, -np.inf)
    result[ids] = kept
    return result


def probabilities(logits: NDArray[np.float32], sampling: Sampling) -> NDArray[np.float64]:
    """Of each token to be drawn, (vocab_size,), temperature > 0."""
    return np.exp(log_softmax(truncated(logits, sampling)))


def judged(guesses: Sequence[Guess], wanted: NDArray[np.float64], random: np.random.Generator) -> int:
    """One of the guesses, or a token in their place, so that the result is distributed as `wanted`, (vocab_size,)."""
    for token, drawn in guesses:
        if random.random() * drawn[token] < wanted[token]:
            return token
        rest = np.maximum(wanted - drawn, 0)
        wanted = rest / rest.sum() if rest.any() else wanted
    return draw_weighted(wanted, random)


def log_softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Natural-log probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
