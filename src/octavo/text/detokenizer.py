"""Token ids to text, one token at a time, with never half a character.

Law: the pushed texts and the flush together equal `Tokenizer.decode` of all ids, for any ids. Each token costs constant
time: byte-level tokens go through an incremental UTF-8 decoder; a SentencePiece token is text by itself, except a run
of byte tokens, which the library decodes as one (valid whole or replaced whole) and is therefore held until it ends;
any other decoder is asked for a short window of tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Any, Protocol

REPLACEMENT = "�"


class Detokenizer(Protocol):
    """Turns a stream of token ids into text."""

    def push(self, token_id: int) -> str:
        """The text that this token completes; empty while a character, or a run of byte tokens, is unfinished."""
        ...

    def flush(self) -> str:
        """What is still held, unfinished characters as U+FFFD; call it once, at the end."""
        ...


class ByteDetokenizer:
    """For byte-level vocabularies. bytes_of: a token's bytes, empty for one that is not shown."""

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(self._bytes_of(token_id))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class PieceDetokenizer:
    """For SentencePiece vocabularies. piece_of: a token as written in the vocabulary, None for one that is not shown.

    strip: how many leading spaces the whole text loses.
    """

    def __init__(self, piece_of: Callable[[int], str | None], *, strip: int) -> None:
        self._piece_of = piece_of
        self._strip = strip
        self._run = bytearray()

    def push(self, token_id: int) -> str:
        piece = self._piece_of(token_id)
        if piece is None:
            return ""
        byte = fallback_byte(piece)
        if byte is not None:
            self._run.append(byte)
            return ""
        return self._end_run() + self._stripped(piece.replace("▁", " "))

    def flush(self) -> str:
        return self._end_run()

    def _end_run(self) -> str:
        run, self._run = bytes(self._run), bytearray()
        try:
            return self._stripped(run.decode())
        except UnicodeDecodeError:
            return self._stripped(REPLACEMENT * len(run))

    def _stripped(self, text: str) -> str:
        while self._strip and text:
            if not text.startswith(" "):
                self._strip = 0
                break
            text, self._strip = text[1:], self._strip - 1
        return text


class WindowDetokenizer:
    """For any other decoder: decodes the pending tokens behind the last shown one, which gives them their context.

    decode: the text of a list of ids. shown: whether an id is text at all, so that it can serve as context.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], shown: Callable[[int], bool]) -> None:
        self._decode = decode
        self._shown = shown
        self._context: list[int] = []
        self._pending: list[int] = []

    def push(self, token_id: int) -> str:
        if not self._shown(token_id):
            return ""
        self._pending.append(token_id)
        text = self._new_text()
        if text.endswith(REPLACEMENT):
            return ""
        self._context, self._pending = self._pending[-1:], []
        return text

    def flush(self) -> str:
        text = self._new_text()
        self._context, self._pending = [], []
        return text

    def _new_text(self) -> str:
        if not self._pending:
            return ""
        return self._decode([*self._context, *self._pending])[len(self._decode(self._context)) :]


def fallback_byte(piece: str) -> int | None:
    """The byte of a byte-fallback token `<0xNN>`; None for any other."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        try:
            return int(piece[3:5], 16)
        except ValueError:
            return None
    return None


def flattened_decoders(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a tokenizer.json decoder, sequences opened."""
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in flattened_decoders(inner)]
    return [decoder]


def piece_strip(steps: list[dict[str, Any]]) -> int | None:
    """The number of leading spaces that SentencePiece's usual decoder strips; None when the steps are not that."""
    kinds = [step["type"] for step in steps]
    if kinds not in (["Replace", "ByteFallback", "Fuse"], ["Replace", "ByteFallback", "Fuse", "Strip"]):
        return None
    if steps[0]["pattern"] != {"String": "▁"} or steps[0]["content"] != " ":
        return None
    if len(steps) == 3:
        return 0
    strip = steps[3]
    return strip["start"] if strip["content"] == " " and strip["stop"] == 0 else None
