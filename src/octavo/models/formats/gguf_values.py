"""The scalar types, texts and arrays of GGUF metadata, read with bounds checks before anything is allocated.

Unusual: a vocabulary is 100,000 texts one after another, each behind its u64 length. They are cut by C code at the
seven zero bytes that every short length ends with, and the cut is then proved against the lengths themselves.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from octavo.errors import FormatError
from octavo.models.formats.mapped import MappedFile
from octavo.models.formats.tables.stored_types import ARRAY, SCALARS, TEXT

MAX_DEPTH = 4
"""Arrays in arrays that are followed; files in the wild have none."""
WINDOW = 1 << 16
SLOW_TEXTS = 64
HIGH_BYTES = b"\0" * 7


class ValueReader:
    """A cursor over a GGUF file. Every read raises FormatError when the file ends too soon."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.position = 0

    def fail(self, what: str) -> FormatError:
        """The error to raise for this file."""
        return FormatError(f"{self.file.path} {what}: it is truncated or damaged; fetch it again")

    def take(self, count: int, what: str) -> int:
        """Step over `count` bytes and return where they start."""
        start = self.position
        if count > self.file.size - start:
            raise self.fail(f"claims {count} bytes for {what} at byte {start} of {self.file.size}")
        self.position = start + count
        return start

    def scalar(self, layout: str, what: str) -> Any:
        """One number in a `struct` layout."""
        return struct.unpack_from(layout, self.file.data, self.take(struct.calcsize(layout), what))[0]

    def text(self, what: str) -> str:
        """A UTF-8 text behind its u64 length."""
        length = self.scalar("<Q", what)
        start = self.take(length, what)
        return self.decode(self.file.data[start : start + length], what)

    def decode(self, data: bytes, what: str) -> str:
        """UTF-8 to text."""
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.fail(f"has {what} that is not UTF-8") from None

    def value(self, what: str, depth: int = 0) -> Any:
        """A type id and a value of that type."""
        return self._typed(self.scalar("<I", what), what, depth)

    def _typed(self, kind: int, what: str, depth: int) -> Any:
        if kind in SCALARS:
            return self.scalar(SCALARS[kind], what)
        if kind == TEXT:
            return self.text(what)
        if kind == ARRAY and depth < MAX_DEPTH:
            return self._array(what, depth)
        raise self.fail(f"gives {what} the value type {kind}")

    def _array(self, what: str, depth: int) -> list[Any]:
        kind = self.scalar("<I", what)
        count = self.scalar("<Q", what)
        if kind in SCALARS:
            layout = SCALARS[kind]
            start = self.take(count * struct.calcsize(layout), what)
            values: list[Any] = np.frombuffer(self.file.data, np.dtype(layout), count, start).tolist()
            return values
        if count * 8 > self.file.size - self.position:  # a text or an array takes eight bytes at least
            raise self.fail(f"claims {count} values in {what}")
        if kind == TEXT:
            return self._texts(count, what)
        return [self._typed(kind, what, depth + 1) for _ in range(count)]

    def _texts(self, count: int, what: str) -> list[str]:
        texts: list[str] = []
        while len(texts) < count:
            run = self._short_texts()[: count - len(texts)]
            self.position += sum(map(len, run)) + 8 * len(run)
            texts += self._decode_run(run, what)
            # Read on one by one, for so long that a file of empty texts does not pay for a window at each.
            texts += [self.text(what) for _ in range(min(SLOW_TEXTS, count - len(texts)))]
        return texts

    def _short_texts(self) -> list[bytes]:
        """The texts ahead, within one window, that are 1 to 255 bytes long and hold no run of seven zero bytes.

        Splitting gives the first length byte, then each text followed by the next one's length byte. If the piece
        before ends with the byte n and this piece has n + 1 bytes, the text is exactly where its length says.
        """
        pieces = self.file.data[self.position : self.position + WINDOW].split(HIGH_BYTES)
        if len(pieces[0]) != 1:
            return []
        texts = pieces[1:-1]
        claimed = [piece[-1] + 1 if piece else 0 for piece in pieces[:-2]]
        if claimed != list(map(len, texts)):
            end = next(index for index, text in enumerate(texts) if len(text) != claimed[index])
            texts = texts[:end]
        return [text[:-1] for text in texts]

    def _decode_run(self, run: list[bytes], what: str) -> list[str]:
        joined = b"\0".join(run)
        if run and joined.count(b"\0") == len(run) - 1:  # no text holds a zero: one decode for all
            return self.decode(joined, what).split("\0")
        return [self.decode(text, what) for text in run]
