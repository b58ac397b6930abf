"""From logits to the next token, in one documented order.

The mask of a constraint; logit bias, repetition, presence and frequency penalties; then, unless greedy: temperature,
top-k, top-p, min-p, typical-p, draw. The order is that of the `transformers` library. The mask comes first, so that the
cuts are made among what is allowed. Log-probabilities are reported of the model's own logits, before all this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from octavo.generate.lm import Sampling
from octavo.generate.sample.bias import add_bias
from octavo.generate.sample.mask import keep_allowed
from octavo.generate.sample.penalties import penalise_presence, penalise_repetition
from octavo.generate.sample.temperature import apply_temperature
from octavo.generate.sample.truncation import keep_min_p, keep_top_k, keep_top_p, keep_typical_p


class Sampler:
    """Chooses one sequence's tokens. Keeps what the penalties need and the sequence's own random numbers."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int]) -> None:
        self.sampling = sampling
        self._random = np.random.default_rng(sampling.seed) if sampling.temperature > 0 else None
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else set()
        self._counts: Counter[int] = Counter()

    def choose(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_] | None = None) -> int:
        """Pick the next token from its logits (vocab_size,) and remember it. allowed: (vocab_size,), at least one."""
        if allowed is not None:
            logits = keep_allowed(logits, allowed)
        logits = self._penalised(logits)
        token = int(logits.argmax()) if self._random is None else draw(truncated(logits, self.sampling), self._random)
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


def truncated(logits: NDArray[np.float32], sampling: Sampling) -> NDArray[np.float32]:
    """Temperature and the cuts that `sampling` asks for, temperature > 0. logits: (vocab_size,)."""
    logits = apply_temperature(logits, sampling.temperature)
    if sampling.top_k:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p > 0:
        logits = keep_min_p(logits, sampling.min_p)
    if sampling.typical_p < 1:
        logits = keep_typical_p(logits, sampling.typical_p)
    return logits


def draw(logits: NDArray[np.float32], random: np.random.Generator) -> int:
    """Draw a token from softmax(logits), logits (vocab_size,) with -inf for those that cannot be."""
    cumulative = np.cumsum(np.exp(logits - logits.max(), dtype=np.float64))
    token = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
    return int(min(token, np.searchsorted(cumulative, cumulative[-1])))  # the product may round up to the total


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural-log probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
