"""How many guesses are tried for one text: all while they are right, fewer when they are wrong.

Where they are in vain, none for a while, and then for a longer while: a guess costs a token's share of a step.
"""

from __future__ import annotations

VAIN = 3
"""So many drafts one after another without a right guess are followed by a pause."""
PAUSES = (12, 96)
"""Steps without a draft: the first pause, which doubles each time up to the longest."""


class Trust:
    """most: never more guesses than that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = most
        self._vain = 0
        self._left = 0
        self._pause = PAUSES[0]

    def limit(self) -> int:
        """Guesses to ask for in this step."""
        if self._left:
            self._left -= 1
            return 0
        return self._limit

    def told(self, drafted: int, accepted: int, depth: int | None = None) -> None:
        """What became of a draft. depth: how many could stand at most; None: all."""
        whole = accepted == (drafted if depth is None else depth)
        self._limit = min(self._most, 2 * drafted if whole else max(1, accepted + 1, self._limit // 2))
        if accepted:
            self._vain, self._pause = 0, PAUSES[0]
            return
        self._vain += 1
        if self._vain >= VAIN:
            self._vain, self._left, self._limit = 0, self._pause, 1
            self._pause = min(2 * self._pause, PAUSES[1])
