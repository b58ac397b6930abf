"""Sizes in tokens: counting them, and windows of so many tokens cut where words begin.

A model sees the first so many tokens of a passage and nothing of the rest, so a chunk for an encoder is measured by
that encoder's own tokenizer. A chunk never has more tokens than asked for, encoded alone.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import tokenizers

from octavo.retrieve.chunking.recursive import Length, Range
from octavo.text import Tokenizer


def counter(tokenizer: Tokenizer) -> Length:
    """The number of tokens of a text, BOS and such left out."""
    backend = _plain(tokenizer)

    @lru_cache(maxsize=1 << 14)
    def count(text: str) -> int:
        return len(backend.encode(text, add_special_tokens=False).ids)

    return count


def token_windows(text: str, tokenizer: Tokenizer, chunk_size: int, overlap: int) -> list[Range]:
    """Ranges of at most chunk_size tokens, each beginning `overlap` tokens before the end of the last, or fewer.

    A window ends where a word begins if one does in its second half, and never within a character.
    """
    count = counter(tokenizer)
    offsets = [pair for pair in _plain(tokenizer).encode(text, add_special_tokens=False).offsets if pair[0] < pair[1]]
    starts = [pair[0] for pair in offsets]
    found: list[Range] = []
    first = 0
    while first < len(offsets):
        last = _cut(text, offsets, first, min(first + chunk_size, len(offsets)))
        while count(text[starts[first] : offsets[last - 1][1]]) > chunk_size:
            shorter = _cut(text, offsets, first, last - 1) if last > first + 1 else last
            if shorter >= last:  # a single character, which cannot be cut
                break
            last = shorter
        found.append((starts[first], offsets[last - 1][1]))
        if last == len(offsets):
            break
        first = max(first + 1, _whole(offsets, last - overlap) if overlap else last)
    return found


def _cut(text: str, offsets: list[Range], first: int, last: int) -> int:
    """The end of a window of tokens first to last (not included), moved back to a better place."""
    if last == len(offsets):
        return last
    for at in range(last, first + (last - first) // 2, -1):
        if _whole(offsets, at) == at and _begins_word(text, offsets[at][0]):
            return at
    last = max(_whole(offsets, last), first + 1)
    while last < len(offsets) and offsets[last][0] < offsets[last - 1][1]:  # one character alone is over the size
        last += 1
    return last


def _whole(offsets: list[Range], at: int) -> int:
    """The nearest token at or before `at` that begins a character (byte-level tokens may share one)."""
    while at > 0 and offsets[at][0] < offsets[at - 1][1]:
        at -= 1
    return at


def _begins_word(text: str, offset: int) -> bool:
    if offset == 0 or text[offset].isspace() or text[offset - 1].isspace():
        return True
    return unicodedata.east_asian_width(text[offset]) in "WF" and not unicodedata.category(text[offset]).startswith("P")


def _plain(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer without the truncation and padding that an encoder's file may ask for."""
    backend = tokenizer.backend
    if backend.truncation is None and backend.padding is None:
        return backend
    twin = tokenizers.Tokenizer.from_str(backend.to_str())
    twin.no_truncation()
    twin.no_padding()
    return twin
