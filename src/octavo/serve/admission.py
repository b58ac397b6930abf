"""How many generations run at once, and how many, with how many tokens, may wait for their turn: first come first
served, by priority.

Unusual: it starts what it admits by calling it, on the event loop, so a waiting generation costs neither a thread nor a
task. Not thread-safe: all calls come from the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from octavo.serve.errors import ApiError

Start = Callable[[], None]


SOON = 0.2
"""How much the latest answer counts in what is measured."""


@dataclass(frozen=True)
class _Waiting:
    priority: int
    start: Start
    tokens: int


class Admission:
    """Slots for `max_running` generations and a queue of `max_queue`, of `max_queued_tokens` at most (None: any)."""

    def __init__(self, max_running: int, max_queue: int, max_queued_tokens: int | None = None) -> None:
        self.max_running = max_running
        self.max_queue = max_queue
        self.max_queued_tokens = max_queued_tokens
        self.running = 0
        self._waiting: list[_Waiting] = []  # in the order of their turns
        self._tokens_a_second = 100.0  # of one slot, until it is measured
        self._mean_tokens = 100.0

    @property
    def waiting(self) -> int:
        """Generations in the queue."""
        return len(self._waiting)

    @property
    def queued_tokens(self) -> int:
        """Tokens, by estimate, of what is in the queue."""
        return sum(waiting.tokens for waiting in self._waiting)

    def admit(self, starts: Sequence[Start], priority: int = 0, tokens: int | None = None) -> None:
        """Start these now or as slots come free; each that was started must be released once. priority: small is soon.

        tokens: what each will read and write, by estimate; None: as many as others did.
        Raises ApiError: 400 when there are more than could ever run and wait together, 429 when the queue is full now.
        """
        each = round(self._mean_tokens) if tokens is None else tokens
        most = self.max_running + self.max_queue
        if len(starts) > most:
            raise ApiError(
                400,
                "invalid_value",
                f"The request asks for {len(starts)} completions (prompts times n); this server takes {most} at once.",
                param="n",
            )
        if self.running + self.waiting + len(starts) > most or not self._has_room(len(starts), each):
            seconds = self._retry_seconds()
            raise ApiError(
                429,
                "queue_full",
                f"The server is busy: {self.running} running, {self.waiting} waiting; try again in {seconds} s.",
                headers={"Retry-After": str(seconds), "retry-after-ms": str(1000 * seconds)},
            )
        self._waiting += [_Waiting(priority, start, each) for start in starts]
        self._waiting.sort(key=lambda waiting: waiting.priority)  # keeps the order of equal ones
        self._fill()

    def waits(self, start: Start) -> bool:
        """Whether it is in the queue."""
        return any(waiting.start == start for waiting in self._waiting)

    def withdraw(self, start: Start) -> bool:
        """Take back one that waits. Returns whether it did; if not, it was started."""
        others = [waiting for waiting in self._waiting if waiting.start != start]
        found = len(others) < len(self._waiting)
        self._waiting = others
        return found

    def release(self, seconds: float, tokens: int = 0) -> None:
        """A started one has ended after that time, having read and written so many tokens; its slot goes to the next.

        tokens 0: it was no answer of a model, and says nothing of its speed.
        """
        self.running -= 1
        if tokens and seconds > 0:
            self._tokens_a_second += SOON * (tokens / seconds - self._tokens_a_second)
            self._mean_tokens += SOON * (tokens - self._mean_tokens)
        self._fill()
        self.check()

    def check(self) -> None:
        """The invariants: slots within bounds, and nobody waits beside a free slot."""
        assert 0 <= self.running <= self.max_running
        assert not self._waiting or self.running == self.max_running

    def _fill(self) -> None:
        while self._waiting and self.running < self.max_running:
            self.running += 1
            self._waiting.pop(0).start()

    def _has_room(self, count: int, tokens: int) -> bool:
        """Whether those that would wait have room in the queue. Where nobody waits one may, however long it is."""
        waiting = max(0, count - (self.max_running - self.running))
        if self.max_queued_tokens is None or not waiting:
            return True
        queued = self.queued_tokens
        return not queued or queued + waiting * tokens <= self.max_queued_tokens

    def _retry_seconds(self) -> int:
        """The tokens before a newcomer over the speed at which they were read and written lately."""
        wait = (self._mean_tokens + self.queued_tokens / self.max_running) / self._tokens_a_second
        return min(60, max(1, math.ceil(wait)))
