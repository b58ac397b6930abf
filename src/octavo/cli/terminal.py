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
"""All but tab and newline; a model's text, a document's or a file's name must not move the cursor or set the title."""

TAIL, ROUNDS, LOOPED = 48, 6, 1000
"""An answer goes in circles when it ends with one piece, at least ROUNDS times over and LOOPED characters long.

Where the last TAIL characters stood before says how long the piece is.
"""


@dataclass(frozen=True)
class Answer:
    """An answer that was shown. seconds: from the first token to the last; first: until the first.

    circling: it was stopped because it only repeated itself.
    """

    text: str
    finished: Finished | None
    first: float
    seconds: float
    circling: bool = False

    def speed(self) -> str:
        """One line for people: how much, how fast, why it ended."""
        if self.finished is None:
            return "stopped"
        tokens = self.finished.completion_tokens
        rate = f", {(tokens - 1) / self.seconds:.1f} tokens/s" if tokens > 1 and self.seconds > 0 else ""
        if self.circling:
            return f"{tokens} tokens{rate}, stopped as it only repeats itself; --repetition-penalty 1.1 often helps"
        ended = {"length": ", cut at its limit", "cancelled": ", stopped"}.get(self.finished.reason, "")
        return f"{tokens} tokens in {self.first + self.seconds:.2f} s{rate}, first after {self.first:.2f} s{ended}"


def say(text: str) -> None:
    """Write lines to stdout; on a terminal, without what steers it."""
    sys.stdout.write((CONTROL.sub("", text) if sys.stdout.isatty() else text) + "\n")


def tell(line: str) -> None:
    """Write one line to stderr, whatever names it holds."""
    sys.stderr.write("octavo: " + CONTROL.sub("", line.replace("\n", r"\n")) + "\n")


def show_answer(stream: Stream, *, endless: bool = False) -> Answer:
    """Write an answer to stdout as it comes. Ctrl-C ends the answer and is reported as `finished` None.

    endless: as `Reading` has it.
    """
    reading = Reading(stream, endless=endless)
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
    """The texts of a stream, timed. endless: nothing else limits it, so one that goes in circles is stopped."""

    def __init__(self, stream: Stream, *, endless: bool = False) -> None:
        self.text = ""
        self._stream = stream
        self._endless = endless
        self._circling = False
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
                if self._endless and not self._circling and circles(self.text):
                    self._circling = True
                    self._stream.close()
            elif isinstance(event, Finished):
                self._finished = event

    def answer(self) -> Answer:
        """All of it, once the stream has ended."""
        return Answer(self.text, self._finished, self._first, self._last - self._first, self._circling)


def circles(text: str) -> bool:
    """Whether a text ends by saying the same over and over."""
    found = text.rfind(text[-TAIL:], max(0, len(text) - TAIL - LOOPED), len(text) - 1)
    if len(text) < LOOPED or found < 0:
        return False
    length = len(text) - TAIL - found
    end = text[-max(LOOPED, ROUNDS * length) :]
    return len(end) >= ROUNDS * length and end[length:] == end[:-length]
