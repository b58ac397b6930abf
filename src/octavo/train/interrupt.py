"""Ctrl-C and SIGTERM as a question the trainer asks between steps; a second one ends the process at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class StopRequest:
    """While entered, the first SIGINT or SIGTERM only sets `signal_number`. Calling it says whether one came."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # signals are handled there only
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        self.__exit__()
