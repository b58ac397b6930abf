"""How fast a model reads and writes here: through the engine, as a server's requests go, not in a bare loop.

Unusual: each round has prompts of its own, since the beginning of a known one would not be computed again.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from octavo.errors import OctavoError
from octavo.generate.lm import Delta, LanguageModel, Request, Sampling


@dataclass(frozen=True)
class Speed:
    """Medians over the rounds. prefill and decode: tokens a second of all sequences together.

    first_token: seconds until the last of the sequences has its first token.
    """

    batch: int
    prompt_tokens: int
    new_tokens: int
    prefill: float
    decode: float
    first_token: float


def measure(
    model: LanguageModel, *, batch: int, prompt_tokens: int, new_tokens: int, rounds: int = 3, seed: int = 0
) -> Speed:
    """Run `rounds` times `batch` prompts of random tokens at once, after one that warms up.

    new_tokens: that each answer has, at least 2. Raises OctavoError for what the context does not hold.
    """
    if new_tokens < 2:
        raise OctavoError(f"{new_tokens} new tokens are too few to measure; take at least 2")
    if prompt_tokens + new_tokens > model.context_length:
        asked = f"{prompt_tokens} prompt tokens and {new_tokens} new ones"
        raise OctavoError(f"{asked} are more than the context of {model.context_length} tokens; take fewer")
    generator = np.random.default_rng(seed)
    figures = []
    for _ in range(rounds + 1):
        prompts = _prompts(model, generator, batch, prompt_tokens)
        figures.append(_one_round(model, prompts, new_tokens))
    prefill, decode, first = zip(*figures[1:], strict=True)
    middle = statistics.median
    return Speed(batch, prompt_tokens, new_tokens, middle(prefill), middle(decode), middle(first))


def _prompts(model: LanguageModel, generator: np.random.Generator, batch: int, length: int) -> list[list[int]]:
    if model.tokenizer is None:
        raise OctavoError(f"{model.name} does not show its tokenizer, so its speed cannot be measured from here")
    ordinary = np.setdiff1d(np.arange(model.tokenizer.vocab_size), list(model.tokenizer.special_ids))
    return [[int(token) for token in generator.choice(ordinary, length)] for _ in range(batch)]


def _one_round(model: LanguageModel, prompts: list[list[int]], new_tokens: int) -> tuple[float, float, float]:
    """Prefill and decode tokens a second, and seconds to the last first token."""
    sampling = Sampling(temperature=0)
    requests = [Request(prompt, max_tokens=new_tokens, sampling=sampling, ignore_eos=True) for prompt in prompts]
    times: list[list[float]] = [[] for _ in requests]
    start = time.perf_counter()
    streams = [model.stream(request) for request in requests]
    readers = [
        threading.Thread(target=lambda stream=stream, into=into: into.extend(_token_times(stream)))
        for stream, into in zip(streams, times, strict=True)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    begun = max(moments[0] for moments in times)
    later = sum(moment > begun for moments in times for moment in moments)
    end = max(moments[-1] for moments in times)
    read = sum(map(len, prompts))
    return read / (begun - start), later / (end - begun), begun - start


def _token_times(stream: Iterator[object]) -> Iterator[float]:
    """When each token came."""
    for event in stream:
        if isinstance(event, Delta):
            moment = time.perf_counter()
            yield from (moment for _ in event.token_ids)
