"""From the engine's thread to whoever reads an answer.

Unusual: what a step says is delivered just before the next one, when the engine's thread lets go of Python's lock for
the length of a step. A reader that woke earlier would only wait for that lock, and cost two changes of threads a token.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from octavo.generate.lm import Event, Finished

Said = Event | BaseException
Hear = Callable[[Sequence[Said]], None]


class Events:
    """What one task says, in order. `add` and `deliver` are the engine's thread's, the rest is anybody's."""

    def __init__(self) -> None:
        self._added: list[Said] = []
        self._delivered: queue.SimpleQueue[Sequence[Said]] = queue.SimpleQueue()
        self._hear: Hear = self._delivered.put
        self._lock = threading.Lock()

    def add(self, event: Said) -> None:
        """Say something, heard at the next `deliver`."""
        self._added.append(event)

    def deliver(self) -> None:
        """Hand over what was added."""
        if self._added:
            added, self._added = self._added, []
            with self._lock:
                self._hear(added)

    def wait(self) -> Sequence[Said]:
        """What was delivered together; waits for it."""
        return self._delivered.get()

    def at_hand(self) -> list[Said]:
        """All that was delivered and not yet read."""
        found: list[Said] = []
        while not self._delivered.empty():
            found += self._delivered.get()
        return found

    def listen(self, hear: Hear) -> None:
        """From now on `hear` is called with what is delivered, by the engine's thread: it must not block or raise."""
        with self._lock:
            self._hear = hear
            if waiting := self.at_hand():
                hear(waiting)


class Told(Protocol):
    """What a stream shares with the engine's thread."""

    events: Events
    cancelled: bool


class CompletionStream:
    """The reader's end of a completion: its events, from any thread. wake: tells the engine of a cancellation."""

    def __init__(self, completion: Told, wake: Callable[[], None]) -> None:
        self._completion = completion
        self._wake = wake
        self._unread: deque[Said] = deque()
        self._ended = False

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        if not self._unread:
            self._unread.extend(self._completion.events.wait())
        event = self._unread.popleft()
        self._ended = isinstance(event, Finished | BaseException)
        if isinstance(event, BaseException):
            raise event
        return event

    def listen(self, hear: Hear) -> None:
        """Instead of reading: see `Events.listen`. The last that is heard is Finished or an error."""
        self._completion.events.listen(hear)

    def close(self) -> None:
        """Stop the request; its blocks are free before the next step."""
        self._completion.cancelled = True
        self._wake()
