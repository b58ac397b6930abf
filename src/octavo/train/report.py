"""What a person sees of a run: a bar on a terminal, plain lines elsewhere. No torch here."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from octavo.train.metrics import Event, Noted, Saved, Stepped, Validated

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 10.0


class Report:
    """Call it with events. Entered, it owns the stream: a bar where that is a terminal, else lines."""

    def __init__(self, stream: TextIO, steps: int) -> None:
        self._stream, self._steps = stream, steps
        self._first: tuple[int, float] | None = None  # a step and when it was done, for the ETA
        self._written = -SECONDS_BETWEEN_LINES
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._progress = _bar(self._stream)
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Stepped():
                self._stepped(event)
            case Validated():
                best = ", the best so far" if event.best else ""
                self._line(f"step {event.step}/{self._steps}  validation loss {event.validation_loss:.4f}{best}")
            case Noted():
                self._line(event.text)
            case Saved():
                pass  # worth a file, not a line

    def _stepped(self, event: Stepped) -> None:
        now = time.perf_counter()
        if self._first is None:
            self._first = (event.step - 1, now)
        pace = f"loss {event.loss:.4f}  {event.tokens_per_second:,.0f} tokens/s  ETA {self._eta(event.step, now)}"
        if self._progress is not None:
            if self._task is None:
                self._task = self._progress.add_task("training", total=self._steps)
            self._progress.update(self._task, completed=event.step, pace=pace)
        elif now - self._written >= SECONDS_BETWEEN_LINES or event.step == self._steps:
            self._written = now
            self._line(f"step {event.step}/{self._steps}  {pace}")

    def _eta(self, step: int, now: float) -> timedelta:
        assert self._first is not None
        first, began = self._first
        return timedelta(seconds=round((now - began) / max(step - first - 1, 1) * (self._steps - step)))

    def _line(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()


def _bar(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}", markup=False))
    return Progress(*columns, console=Console(file=stream), refresh_per_second=5)
