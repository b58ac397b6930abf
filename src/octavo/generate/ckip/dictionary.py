"""Words that a user knows better: a recommended one joins pieces, a coerced one is cut out whatever the model says.

The rules are CKIP Tagger's: where words overlap, the one with the greater weight wins, then the longer one, then the
earlier one; a recommended word is taken only where both of its ends are ends of words already.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from octavo.errors import FormatError, OctavoError


class Dictionary:
    """Words with their weights; an empty word is none."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._by_length: dict[int, dict[str, float]] = defaultdict(dict)
        for word, weight in weights.items():
            if word:
                self._by_length[len(word)][word] = float(weight)

    @staticmethod
    def read(path: Path) -> Dictionary:
        """A word a line, and after white space its weight, which is 1 where it is left out.

        Raises OctavoError for a file that cannot be read, FormatError for a weight that is no number.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise OctavoError(f"the dictionary {path} cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise FormatError(f"the dictionary {path} is not UTF-8 text") from None
        weights: dict[str, float] = {}
        for number, line in enumerate(lines, 1):
            word, *rest = line.split()[:3] or [""]
            try:
                weights[word] = float(rest[0]) if rest else 1.0
            except ValueError:
                rest.append("")
            if len(rest) > 1 or not math.isfinite(weights[word]):
                raise FormatError(f"{path}, line {number}: {line.strip()[:40]!r} is not a word and its weight")
        return Dictionary(weights)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where its words stand in a text, from left to right and apart from each other."""
        found: dict[tuple[int, int], float] = {}
        for length, weights in self._by_length.items():
            for start in range(len(text) - length + 1):
                weight = weights.get(text[start : start + length])
                if weight is not None:
                    found[start, start + length] = weight
        taken, kept = [False] * len(text), []
        for start, end in sorted(found, key=lambda span: (-found[span], span[0] - span[1], span[0])):
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                kept.append((start, end))
        return sorted(kept)


NOTHING = Dictionary({})


def joined(words: Sequence[str], recommended: Dictionary = NOTHING, coerced: Dictionary = NOTHING) -> list[str]:
    """The words of a sentence, cut anew with both dictionaries; together they are the same text."""
    text = "".join(words)
    begins = [place == 0 for word in words for place in range(len(word))]
    for start, end in recommended.spans(text):
        if begins[start] and (end == len(text) or begins[end]):
            begins[start + 1 : end] = [False] * (end - start - 1)
    for start, end in coerced.spans(text):
        begins[start:end] = [True, *[False] * (end - start - 1)]
        if end < len(text):
            begins[end] = True
    return cut(text, begins)


def cut(text: str, begins: Sequence[bool]) -> list[str]:
    """Words of a text. begins: whether each character begins one; the first does in any case."""
    starts = [place for place, begun in enumerate(begins) if begun or place == 0]
    return [text[start:end] for start, end in pairwise([*starts, len(text)])]
