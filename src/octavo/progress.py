"""Progress of long work, on stderr: a bar on a terminal, plain lines each ten seconds elsewhere, nothing when silent.

`with track(total, "Downloading weights", unit="B") as work: … work.advance(n)`, or `for x in work.each(items)`.
NO_COLOR and TERM=dumb are respected (by rich, which is imported only on a terminal).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, TypeVar

PLAIN_INTERVAL = 10.0  # seconds between lines where there is no terminal

Item = TypeVar("Item")


class _Display(Protocol):
    def update(self, work: Track) -> None: ...

    def close(self, work: Track, *, failed: bool) -> None: ...


class Track:
    """A piece of work under way. total: how many units, None where unknown; done: how many so far."""

    def __init__(self, total: float | None, description: str, *, unit: str, done: float, show: bool) -> None:
        self.total = total
        self.description = description
        self.unit = unit
        self.done = done
        self.first = done
        self.started = time.monotonic()
        self.note = ""
        self._show = show
        self._display: _Display | None = None

    def __enter__(self) -> Track:
        self.started = time.monotonic()
        if self._show:
            self._display = _choose_display(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.close(self, failed=kind is not None)

    def advance(self, amount: float = 1, *, note: str | None = None) -> None:
        """Count `amount` more units as done. note: a few words on the state, such as the loss."""
        self.done += amount
        if note is not None:
            self.note = note
        if self._display is not None:
            self._display.update(self)

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each counted as one unit once the loop is done with it."""
        for item in items:
            yield item
            self.advance()

    def summary(self) -> str:
        """One line: how far, how fast, how long still."""
        seconds = time.monotonic() - self.started
        rate = (self.done - self.first) / seconds if seconds > 0 else 0.0
        parts = [self.amounts()]
        if rate > 0:
            parts.append(f"{_amount(rate, self.unit)}/s")
            if self.total is not None and self.done < self.total:
                parts.append(f"{_duration((self.total - self.done) / rate)} left")
        if self.note:
            parts.append(self.note)
        return f"{self.description}: {', '.join(parts)}"

    def amounts(self) -> str:
        """How much is done, of how much."""
        if not self.total:
            return _amount(self.done, self.unit)
        percent = 100 * self.done / self.total
        return f"{percent:.0f} % ({_amount(self.done, self.unit)} of {_amount(self.total, self.unit)})"


def track(total: float | None, description: str, *, unit: str = "", done: float = 0, show: bool | None = True) -> Track:
    """Work to follow, as a context manager.

    total: number of units, None where unknown. unit: its name; "B" is shown in kB, MB, GB. done: units that were
    finished before (a resumed download). show: False is silent.
    """
    return Track(total, description, unit=unit, done=done, show=bool(show))


class _Lines:
    """Plain lines: the first after PLAIN_INTERVAL, and a last one for work that took over a second."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def update(self, work: Track) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL:
            self._last = now
            say(work.summary())

    def close(self, work: Track, *, failed: bool) -> None:
        seconds = time.monotonic() - work.started
        if failed:
            say(f"{work.description}: stopped at {work.amounts()}")
        elif seconds > 1:
            say(f"{work.description}: {_amount(work.done, work.unit)} in {_duration(seconds)}")


class _Bar:
    """A bar of rich's."""

    def __init__(self, work: Track, console: Any) -> None:
        from rich import progress

        columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
        columns += [progress.TextColumn("{task.fields[amounts]}"), progress.TimeRemainingColumn()]
        columns += [progress.TextColumn("{task.fields[note]}")]
        self._progress = progress.Progress(*columns, console=console)
        self._task = self._progress.add_task(
            work.description, total=work.total, completed=int(work.done), amounts=work.amounts(), note=""
        )
        self._progress.start()

    def update(self, work: Track) -> None:
        self._progress.update(self._task, completed=work.done, amounts=work.amounts(), note=work.note)

    def close(self, work: Track, *, failed: bool) -> None:
        if not failed and work.total is None:
            self._progress.update(self._task, total=work.done, completed=work.done)
        self._progress.stop()


def _choose_display(work: Track) -> _Display:
    if sys.stderr.isatty():
        from rich.console import Console  # takes tens of milliseconds

        console = Console(stderr=True)
        if not console.is_dumb_terminal:
            return _Bar(work, console)
    return _Lines()


def say(line: str) -> None:
    """One plain line on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _amount(value: float, unit: str) -> str:
    if unit != "B":
        number = f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.1f}"
        return f"{number} {unit}".rstrip()
    for name in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} B" if name == "B" else f"{value:.1f} {name}"
        value /= 1000
    return f"{value:.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
