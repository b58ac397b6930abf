"""How much of new prompts a step takes beside those that decode, by what steps have been measured to take.

So a long prompt slows the answers that run by a known factor, whatever the machine, the model and the context.
"""

from __future__ import annotations

import statistics
from collections import deque

SLOWEST = 3.0
"""A step that decodes and reads prompts takes at most so many times one that only decodes."""
MARGIN = 0.8
"""Of that is aimed at, since the context grows and steps differ."""
UNIT = 4
"""Prompt tokens are taken in whole units, at least one. Behind 4,000 others, whose keys each of them reads, 8 would
already take 2.2 times a step of 8 answers (SmolLM2-135M); fewer than 4 would take as long where kernels use tiles."""
FIRST = 16
"""Prompt tokens beside decoding before anything has been measured."""


class Pace:
    """Learns from each step. Medians, because a busy machine makes single steps slow."""

    def __init__(self) -> None:
        self._decoding: deque[float] = deque(maxlen=16)
        self._token: deque[float] = deque(maxlen=8)
        self._last = FIRST

    def measured(self, decoding: int, prompt: int, seconds: float) -> None:
        """A step of so many decoded and prompt tokens has taken so long."""
        if not prompt:
            self._decoding.append(seconds)
        elif decoding and self._decoding:
            self._last = prompt
            self._token.append(max(0.0, seconds - statistics.median(self._decoding)) / prompt)

    def beside(self) -> int:
        """How many prompt tokens the next step may take beside decoding."""
        if not self._token:
            return FIRST
        room = (MARGIN * SLOWEST - 1) * statistics.median(self._decoding)
        most = min(2 * self._last, int(room / max(statistics.median(self._token), 1e-9)))
        return max(UNIT, most - most % UNIT)
