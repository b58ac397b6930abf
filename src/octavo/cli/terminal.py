"""What a person sees: an answer as it comes, without control characters on a terminal, and how fast it came."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octavo.generate.lm import Finished, Stream

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tab and newline; a model's text must not move the cursor or set the window's title."""


@dataclass(frozen=True)
class Answer:
    """An answer that was shown. seconds: from the first token to the last; first: until the first."""

    text: str
    finished: Finished | None
    first: float
    seconds: float

    def speed(self) -> str:
        """One line for people: how much, how fast, why it ended."""
        if self.finished is None:
            return "stopped"
        tokens = self.finished.completion_tokens
        rate = f", {(tokens - 1) / self.seconds:.1f} tokens/s" if tokens > 1 and self.seconds > 0 else ""
        ended = {"length": ", cut at its limit", "cancelled": ", stopped"}.get(self.finished.reason, "")
        return f"{tokens} tokens in {self.first + self.seconds:.2f} s{rate}, first after {self.first:.2f} s{ended}"


def show_answer(stream: Stream) -> Answer:
    """Write an answer to stdout as it comes. Ctrl-C ends the answer and is reported as `finished` None."""
    reading = Reading(stream)
    plain = sys.stdout.isatty()
    try:
        for text in reading:
            sys.stdout.write(CONTROL.sub("", text) if plain else text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        stream.close()
    if not reading.text.endswith("\n"):
        sys.stdout.write("\n")
        sys.stdout.flush()
    return reading.answer()


class Reading:
    """The texts of a stream, timed."""

    def __init__(self, stream: Stream) -> None:
        self.text = ""
        self._stream = stream
        self._finished: Finished | None = None
        self._began = time.perf_counter()
        self._first = self._last = 0.0

    def __iter__(self) -> Iterator[str]:
        from octavo.generate.lm import Delta, Finished

        for event in self._stream:
            self._last = time.perf_counter() - self._began
            if isinstance(event, Delta):
                self._first = self._first or self._last
                self.text += event.text
                yield event.text
            elif isinstance(event, Finished):
                self._finished = event

    def answer(self) -> Answer:
        """All of it, once the stream has ended."""
        return Answer(self.text, self._finished, self._first, self._last - self._first)
