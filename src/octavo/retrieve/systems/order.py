"""Numbers in a new order every epoch, a pure function of (seed, epoch), so that two numbers resume it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from octavo.errors import FormatError


class Shuffled:
    """Implements `DataSource` for examples that an objective knows by number, 0 .. count - 1."""

    def __init__(self, count: int, seed: int) -> None:
        assert count > 0, "there is something to draw"
        self._count, self._seed = count, seed
        self._epoch, self._index = 0, 0

    def draw(self, count: int, model: Any = None) -> list[int]:
        """The next `count` numbers; a draw goes over the end of an epoch into the next."""
        drawn: list[int] = []
        while len(drawn) < count:
            if self._index == self._count:
                self._epoch, self._index = self._epoch + 1, 0
            taken = self._order()[self._index : self._index + count - len(drawn)]
            drawn += taken
            self._index += len(taken)
        return drawn

    def state(self) -> dict[str, Any]:
        """Epoch and index in it."""
        return {"epoch": self._epoch, "index": self._index}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises FormatError for a state of other data."""
        self._epoch, self._index = int(state["epoch"]), int(state["index"])
        if not 0 <= self._index <= self._count:
            raise FormatError(f"the saved position {self._index} is outside the data's {self._count} examples")

    def _order(self) -> list[int]:
        generator = np.random.Generator(np.random.PCG64([self._seed, self._epoch]))
        order: list[int] = generator.permutation(self._count).tolist()
        return order
