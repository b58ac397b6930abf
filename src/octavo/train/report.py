"""What a person sees of a run, on stderr: a bar with loss, pace and time left, and a line for each validation."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from octavo.progress import Track, say, track
from octavo.train.metrics import Event, Noted, Saved, Stepped, Validated


class Report:
    """Call it with events, between entering and leaving it. The bar starts with the first step."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._bar: Track | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, at)
            self._bar = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Stepped():
                if self._bar is None:  # not before: a resumed run is as far as its first step says
                    self._bar = track(self._steps, "Training", unit="steps", done=event.step - 1).__enter__()
                self._bar.advance(note=f"loss {event.loss:.4f}, {event.tokens_per_second:,.0f} tokens/s")
            case Validated():
                best = ", the best so far" if event.best else ""
                say(f"step {event.step} of {self._steps}: validation loss {event.validation_loss:.4f}{best}")
            case Noted():
                say(event.text)
            case Saved():
                pass  # worth a file, not a line
