"""A bound on how long a model thinks (vLLM's `thinking_token_budget`): then the end of its thoughts is written for it.

The marks are found by their tokens, in the prompt too, since some templates open the thoughts themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.text.tokenizer import Tokenizer
from octavo.text.tool_calls import THINK, THINK_END


class ThinkingBudget:
    """tokens: the prompt and then the answer, which grows outside. most: tokens of a thought, 0 or more."""

    def __init__(self, most: int, tokens: Sequence[int], tokenizer: Tokenizer) -> None:
        self._start, self._end = (_ids(mark, tokenizer) for mark in (THINK, THINK_END))
        self._tokens = tokens
        self._left = most
        self._inside = _last(tokens, self._start) > _last(tokens, self._end)
        self._read = len(tokens)
        self._ending = 0
        """How many tokens of the end were written."""

    def forced(self) -> int | None:
        """The token that must come next, where the thought has been long enough. Call it before each token."""
        self._follow()
        if not self._inside or self._left > 0:
            return None
        return self._end[self._ending]

    def _follow(self) -> None:
        for count in range(self._read + 1, len(self._tokens) + 1):
            if self._inside and self._left <= 0:
                self._ending += 1
            elif self._inside:
                self._left -= 1
            if self._inside and _ends_with(self._tokens, count, self._end):
                self._inside, self._ending = False, 0
            elif not self._inside and _ends_with(self._tokens, count, self._start):
                self._inside = True
        self._read = len(self._tokens)


def _ids(mark: str, tokenizer: Tokenizer) -> list[int]:
    """A mark's tokens: one special token, or those it has inside a text, since some tokenizers begin a text with a
    blank."""
    special = tokenizer.token_id(mark)
    if special is not None:
        return [special]
    before = tokenizer.encode("a", bos=False)
    return tokenizer.encode("a" + mark, bos=False)[len(before) :]


def _ends_with(tokens: Sequence[int], count: int, mark: Sequence[int]) -> bool:
    return bool(mark) and count >= len(mark) and list(tokens[count - len(mark) : count]) == list(mark)


def _last(tokens: Sequence[int], mark: Sequence[int]) -> int:
    """Behind the last place where a mark stands; 0: nowhere."""
    return next((count for count in range(len(tokens), 0, -1) if _ends_with(tokens, count, mark)), 0)
