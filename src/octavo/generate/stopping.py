"""Stop texts: a pure machine from pieces of text to the text that may be shown.

It holds back only what could still become a stop text, so that none is ever shown in part.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Feed it text as it comes; it releases what is safe and remembers the stop text that ended it.

    keep: the stop text itself is released too, when it is whole.
    """

    def __init__(self, stops: Sequence[str], *, keep: bool = False) -> None:
        self._stops = tuple(stops)
        self._keep = keep
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> str:
        """Take new text, return what may be shown. After a match, everything further is dropped."""
        if self.matched is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, self.matched = min(found, key=lambda match: match[0])
            end = at + len(self.matched) if self._keep else at
            released, self._held = self._held[:end], ""
            return released
        keep = max(self._open_suffix(stop) for stop in self._stops)
        released, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return released

    def flush(self) -> str:
        """The text still held back, once no more will come."""
        released, self._held = self._held, ""
        return released

    def _open_suffix(self, stop: str) -> int:
        """Length of the longest end of the held text that is a beginning of `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
