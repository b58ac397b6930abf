"""A question with a part of a text, as an encoder reads them together: `[CLS] question [SEP] part [SEP]`.

A text that is too long for the encoder is read in windows that share some tokens; each token knows its characters, so
that an answer found among tokens is an exact span of the text. Source: Devlin et al. 2018 (arXiv 1810.04805).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.errors import UnsupportedError
from octavo.text.tokenizer import Tokenizer

Range = tuple[int, int]
LONGEST_QUESTION = 64
"""Tokens of a question that are read; those that follow are left out."""


@dataclass(frozen=True)
class Pieces:
    """A text's tokens without those that a tokenizer adds. ranges: each one's characters."""

    ids: Sequence[int]
    ranges: Sequence[Range]

    def within(self, start: int, end: int) -> Range | None:
        """The tokens (first, last + 1) that characters start to end touch; None for none."""
        touched = [index for index, (first, last) in enumerate(self.ranges) if first < end and last > start]
        return (touched[0], touched[-1] + 1) if touched else None


@dataclass(frozen=True)
class Window:
    """ids, types: of all tokens. first: where those of the text begin in them. ranges: the text's, as in `Pieces`."""

    ids: list[int]
    types: list[int]
    first: int
    ranges: Sequence[Range]


class PairReader:
    """Makes windows. Raises UnsupportedError for a tokenizer without the two tokens that frame a pair."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        first, last = (tokenizer.token_id(tokenizer.named.get(f"{role}_token", "")) for role in ("cls", "sep"))
        if first is None or last is None:
            raise UnsupportedError("the tokenizer has no [CLS] and [SEP], between which an encoder reads a question")
        self._cls, self._sep = first, last
        self._backend = tokenizer.backend

    def pieces(self, text: str) -> Pieces:
        """A text's tokens."""
        encoded = self._backend.encode(text, add_special_tokens=False)
        return Pieces(encoded.ids, encoded.offsets)

    def window(self, question: Sequence[int], text: Pieces, start: int, end: int) -> Window:
        """The question's tokens with the text's tokens start to end."""
        asked = list(question[:LONGEST_QUESTION])
        head = [self._cls, *asked, self._sep]
        part = list(text.ids[start:end])
        types = [0] * len(head) + [1] * (len(part) + 1)
        return Window([*head, *part, self._sep], types, len(head), text.ranges[start:end])

    def windows(self, question: Sequence[int], text: Pieces, max_tokens: int, overlap: int) -> list[Window]:
        """The whole text in windows of at most `max_tokens` that share `overlap` tokens; one for an empty text."""
        room = max_tokens - 3 - min(len(question), LONGEST_QUESTION)
        assert room > overlap, "a window has more room than it shares"
        starts = range(0, max(len(text.ids) - overlap, 1), room - overlap)
        return [self.window(question, text, start, start + room) for start in starts]
