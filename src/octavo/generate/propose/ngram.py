"""Prompt lookup (Saxena 2023): what followed the last tokens when they stood earlier in the text follows again.

No model, so nearly free; it pays where an answer repeats its prompt: edits, quotations, code.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from octavo.generate.propose import NO_DRAFT, Draft, Text

SIZES = (3, 2, 1)
"""Of n-grams, the first looked up first."""


class NGramProposer:
    """Implements `Proposer`. Keeps for each text where its n-grams stood last."""

    def __init__(self) -> None:
        self._places: dict[Hashable, _Places] = {}

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        """The continuation of the latest place that ends like the text."""
        return [self._places.setdefault(text.key, _Places()).propose(text) for text in texts]

    def forget(self, key: Hashable) -> None:
        """Drop what is known of a text."""
        self._places.pop(key, None)

    def refresh(self) -> None:
        """No weights."""

    def close(self) -> None:
        """Nothing to free."""


class _Places:
    """Where each n-gram of one text ended last, the text's own end not counted."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._read = 1

    def propose(self, text: Text) -> Draft:
        tokens = text.tokens
        for end in range(self._read, len(tokens)):
            for size in SIZES:
                if size <= end:
                    self._after[tuple(tokens[end - size : end])] = end
        self._read = max(self._read, len(tokens))
        for size in SIZES:
            start = self._after.get(tuple(tokens[len(tokens) - size :])) if size < len(tokens) else None
            if start is not None:
                return Draft(tuple(tokens[start : start + text.most]))
        return NO_DRAFT
