"""A question with a part of a text, as an encoder reads them together: `[CLS] question [SEP] part [SEP]`.

A text that is too long for the encoder is read in windows that share some tokens; each token knows its characters, so
that an answer found among tokens is an exact span of the text. Source: Devlin et al. 2018 (arXiv 1810.04805).

Unusual: an encoder with four types of tokens is told which words stand on both sides (the "exact match" of Chen et al.
2017, arXiv 1704.00051): types 0 and 1 are the question and the text as ever, 2 and 3 those of their words that the
other side has too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.errors import UnsupportedError
from octavo.text.scripts.chinese import HAN, traditional
from octavo.text.tokenizer import Tokenizer

Range = tuple[int, int]
LONGEST_QUESTION = 64
"""Tokens of a question that are read; those that follow are left out."""
MATCHING_TYPES = 4
"""Types of tokens of an encoder that is told what stands on both sides."""
_JOINING_WORDS = """
a an and are as at be been but by can could did do does for from had has have he her his how if in into is it its
no not of on or she such that the their them then there these they this those to was we were what when where which
who whom whose why will with would you your"""
_JOINING = frozenset(_JOINING_WORDS.split())


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


class Written(dict[int, str]):
    """What each character is read as, found out when it is met: itself, or the Traditional form that is a token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if HAN.match(character) and self._tokenizer.token_id(character) is None:
            other = traditional(character)
            character = character if self._tokenizer.token_id(other) is None else other
        self[code] = character
        return character


class PairReader:
    """Makes windows. Raises UnsupportedError for a tokenizer without the two tokens that frame a pair.

    matches: whether tokens are of four types.
    """

    def __init__(self, tokenizer: Tokenizer, *, matches: bool = False) -> None:
        first, last = (tokenizer.token_id(tokenizer.named.get(f"{role}_token", "")) for role in ("cls", "sep"))
        if first is None or last is None:
            raise UnsupportedError("the tokenizer has no [CLS] and [SEP], between which an encoder reads a question")
        self._cls, self._sep = first, last
        self._backend = tokenizer.backend
        self._matches = matches
        self._words: dict[int, str] = {}
        self._written = Written(tokenizer)

    def pieces(self, text: str) -> Pieces:
        """A text's tokens; a Simplified character that is none is read as its Traditional form where that is one."""
        read = text if text.isascii() else text.translate(self._written)
        encoded = self._backend.encode(read, add_special_tokens=False)
        return Pieces(encoded.ids, encoded.offsets)

    def window(self, question: Sequence[int], text: Pieces, start: int, end: int) -> Window:
        """The question's tokens with the text's tokens start to end."""
        asked = list(question[:LONGEST_QUESTION])
        head = [self._cls, *asked, self._sep]
        part = list(text.ids[start:end])
        types = [0] * len(head) + [1] * (len(part) + 1)
        if self._matches:
            self._match(asked, part, types)
        return Window([*head, *part, self._sep], types, len(head), text.ranges[start:end])

    def windows(self, question: Sequence[int], text: Pieces, max_tokens: int, overlap: int) -> list[Window]:
        """The whole text in windows of at most `max_tokens` that share `overlap` tokens; one for an empty text."""
        room = max_tokens - 3 - min(len(question), LONGEST_QUESTION)
        assert room > overlap, "a window has more room than it shares"
        starts = range(0, max(len(text.ids) - overlap, 1), room - overlap)
        return [self.window(question, text, start, start + room) for start in starts]

    def _match(self, asked: Sequence[int], part: Sequence[int], types: list[int]) -> None:
        """Raise by two the types of those tokens whose word the other side has."""
        question, text = ([self._word(token) for token in side] for side in (asked, part))
        shared = (set(question) & set(text)) - {""}
        for first, words in ((1, question), (len(asked) + 2, text)):
            for index, word in enumerate(words, first):
                types[index] += 2 * (word in shared)

    def _word(self, token: int) -> str:
        """What a token matches by: its piece without common endings; nothing for signs and words that only join."""
        if token not in self._words:
            piece = self._backend.id_to_token(token) or ""
            telling = piece.strip("#").isalnum() and piece not in _JOINING
            self._words[token] = stem(piece) if telling else ""
        return self._words[token]


def stem(word: str) -> str:
    """An English word without its commonest endings: coarse, and the same on both sides of a comparison."""
    if not word.isascii() or len(word) < 4:
        return word
    for ending in ("ing", "ies", "ied", "es", "ed", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
