"""Prompt lookup (Saxena 2023): what followed the last tokens when they stood earlier in the text follows again.

No model, so nearly free; it pays where an answer repeats its prompt: edits, quotations, code. Unusual: where the last
tokens were followed by different ones, a part of the guesses goes to the second of them (a tree of two branches).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from octavo.generate.propose import NO_DRAFT, Draft, Text

SIZES = (3, 2, 1)
"""Of n-grams, the first looked up first."""
BRANCHED = 2
"""The least size whose second continuation is worth a guess."""
SIDE = 4
"""Of so many guesses one goes to the second branch."""


class NGramProposer:
    """Implements `Proposer`. Keeps for each text where its n-grams stood last, once for each token that followed."""

    def __init__(self) -> None:
        self._places: dict[Hashable, _Places] = {}

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        """The continuation of the latest place that ends like the text, and of one where it goes on otherwise."""
        return [self._places.setdefault(text.key, _Places()).propose(text) for text in texts]

    def forget(self, key: Hashable) -> None:
        """Drop what is known of a text."""
        self._places.pop(key, None)

    def refresh(self) -> None:
        """No weights."""

    def close(self) -> None:
        """Nothing to free."""


class _Places:
    """For each n-gram of one text and the token after it, where that stood last; the latest at the end."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], dict[int, int]] = {}
        self._read = 1

    def propose(self, text: Text) -> Draft:
        tokens = text.tokens
        for end in range(self._read, len(tokens)):
            for size in SIZES:
                if size <= end:
                    places = self._after.setdefault(tuple(tokens[end - size : end]), {})
                    places.pop(tokens[end], None)
                    places[tokens[end]] = end
        self._read = max(self._read, len(tokens))
        first, second = self._starts(tokens)
        if first is None:
            return NO_DRAFT
        aside = 0 if second is None else text.most // SIDE
        chain = tokens[first : first + text.most - aside]
        other = () if second is None else tokens[second : second + aside]
        if not other:
            return Draft(tuple(chain))
        parents = (*range(-1, len(chain) - 1), -1, *range(len(chain), len(chain) + len(other) - 1))
        return Draft((*chain, *other), None, parents)

    def _starts(self, tokens: Sequence[int]) -> tuple[int | None, int | None]:
        """Where the likeliest continuation begins, and the likeliest that begins otherwise."""
        first = second = None
        for size in SIZES:
            places = self._after.get(tuple(tokens[len(tokens) - size :]), {}) if size < len(tokens) else {}
            for start in reversed(places.values()):
                if first is None:
                    first = start
                elif size >= BRANCHED and tokens[start] != tokens[first]:
                    return first, start
        return first, second
