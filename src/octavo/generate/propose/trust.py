"""How many guesses are tried for one text: more while they are right, fewer when they are wrong, none for a while where
they are in vain. A guess costs a token's share of a step whether it is right or not."""

from __future__ import annotations

FIRST = 4
"""Guesses at the beginning."""
VAIN, PAUSE = 3, 12
"""After so many drafts without a right guess, so many steps without a draft."""


class Trust:
    """most: never more guesses than that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = min(most, FIRST)
        self._vain = 0
        self._pause = 0

    def limit(self) -> int:
        """Guesses to ask for in this step."""
        if self._pause:
            self._pause -= 1
            return 0
        return self._limit

    def told(self, proposed: int, accepted: int) -> None:
        """What became of a draft."""
        self._limit = min(self._most, 2 * proposed if accepted == proposed else max(1, accepted + 1))
        self._vain = 0 if accepted else self._vain + 1
        if self._vain >= VAIN:
            self._vain, self._pause = 0, PAUSE
