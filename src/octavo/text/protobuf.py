"""Protocol-buffer messages read by hand, without a schema: SentencePiece's models and TensorFlow's indices are such.

Every function raises ValueError or IndexError for what is damaged. Source: the encoding's documentation (protobuf.dev).
"""

from __future__ import annotations

from collections.abc import Iterator


def fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a message: number, and an integer (varint) or raw bytes."""
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = varint(message, place)
            yield number, value - (1 << 64) if value >> 63 else value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        size, place = varint(message, place) if wire == 2 else (8 if wire == 1 else 4, place)
        if place + size > len(message):
            raise ValueError("a field runs past the end")
        yield number, message[place : place + size]
        place += size


def varint(data: bytes, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number of over ten bytes")


def as_bytes(value: bytes | int) -> bytes:
    """A field that is bytes, or a message."""
    if not isinstance(value, bytes):
        raise ValueError("a number where bytes belong")
    return value


def as_int(value: bytes | int) -> int:
    """A field that is a number."""
    if not isinstance(value, int):
        raise ValueError("bytes where a number belongs")
    return value
