"""How many generations run at once, and how many may wait for their turn: first come first served, by priority.

Unusual: it starts what it admits by calling it, on the event loop, so a waiting generation costs neither a thread nor a
task. Not thread-safe: all calls come from the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from octavo.serve.errors import ApiError

Start = Callable[[], None]


class Admission:
    """Slots for `max_running` generations and a queue of `max_queue`."""

    def __init__(self, max_running: int, max_queue: int) -> None:
        self.max_running = max_running
        self.max_queue = max_queue
        self.running = 0
        self._waiting: list[tuple[int, Start]] = []  # in the order of their turns
        self._mean_seconds = 1.0

    @property
    def waiting(self) -> int:
        """Generations in the queue."""
        return len(self._waiting)

    def admit(self, starts: Sequence[Start], priority: int = 0) -> None:
        """Start these now or as slots come free; each that was started must be released once. priority: small is soon.

        Raises ApiError: 400 when there are more than could ever run and wait together, 429 when the queue is full now.
        """
        most = self.max_running + self.max_queue
        if len(starts) > most:
            raise ApiError(
                400,
                "invalid_value",
                f"The request asks for {len(starts)} completions (prompts times n); this server takes {most} at once.",
                param="n",
            )
        if self.running + self.waiting + len(starts) > most:
            seconds = self._retry_seconds()
            raise ApiError(
                429,
                "queue_full",
                f"The server is busy: {self.running} running, {self.waiting} waiting; try again in {seconds} s.",
                headers={"Retry-After": str(seconds), "retry-after-ms": str(1000 * seconds)},
            )
        self._waiting += [(priority, start) for start in starts]
        self._waiting.sort(key=lambda waiting: waiting[0])  # keeps the order of equal ones
        self._fill()

    def waits(self, start: Start) -> bool:
        """Whether it is in the queue."""
        return any(waiting == start for _, waiting in self._waiting)

    def withdraw(self, start: Start) -> bool:
        """Take back one that waits. Returns whether it did; if not, it was started."""
        others = [(priority, waiting) for priority, waiting in self._waiting if waiting != start]
        found = len(others) < len(self._waiting)
        self._waiting = others
        return found

    def release(self, seconds: float) -> None:
        """A started one has ended after that time; its slot goes to the next."""
        self.running -= 1
        self._mean_seconds += 0.2 * (seconds - self._mean_seconds)
        self._fill()
        self.check()

    def check(self) -> None:
        """The invariants: slots within bounds, and nobody waits beside a free slot."""
        assert 0 <= self.running <= self.max_running
        assert not self._waiting or self.running == self.max_running

    def _fill(self) -> None:
        while self._waiting and self.running < self.max_running:
            self.running += 1
            _, start = self._waiting.pop(0)
            start()

    def _retry_seconds(self) -> int:
        wait = self._mean_seconds * (1 + self.waiting / self.max_running)
        return min(60, max(1, math.ceil(wait)))
