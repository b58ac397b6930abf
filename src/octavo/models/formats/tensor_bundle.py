"""TensorFlow's checkpoints (`NAME.index` and `NAME.data-00000-of-00001`), read as data: no TensorFlow, no code in them.

The index is a sorted table of LevelDB's layout, whose values are small protocol buffers; the data file holds the
tensors' bytes. Every size is checked against its file before it is used. Unusual: checksums are not compared, since
CRC-32C of tens of megabytes takes Python half a minute.
Source: tensorflow/core/util/tensor_bundle, tensorflow/core/protobuf/tensor_bundle.proto, LevelDB's table format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from octavo.errors import FormatError
from octavo.models.formats.mapped import MappedFile, TensorEntry
from octavo.text.protobuf import as_bytes, as_int, fields, varint

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES, TRAILER_BYTES = 48, 5
FLOAT, LITTLE_ENDIAN = 1, 0
INDEX_SUFFIX, DATA_SUFFIX = ".index", ".data-00000-of-00001"


def read_bundle(prefix: Path) -> dict[str, TensorEntry]:
    """The tensors of a checkpoint by name, those of other types than float32 without an encoding.

    prefix: the path of both files without their suffixes. Raises ModelNotFoundError for a missing file, FormatError for
    a damaged one or for a checkpoint of several data files.
    """
    index = MappedFile(prefix.with_name(prefix.name + INDEX_SUFFIX))
    data = MappedFile(prefix.with_name(prefix.name + DATA_SUFFIX))
    try:
        entries = dict(_table(bytes(index.data)))
        header = dict(fields(entries.pop(b"")))
        if header.get(1, 1) != 1 or header.get(2, LITTLE_ENDIAN) != LITTLE_ENDIAN:
            raise FormatError(f"{index.path} is of several data files or of another byte order, which is not read")
        return {key.decode(): _entry(key.decode(), value, data) for key, value in entries.items()}
    except (KeyError, IndexError, ValueError, TypeError, OverflowError) as error:
        raise FormatError(f"{index.path} is no TensorFlow checkpoint, or a damaged one ({error!r})") from None


def _table(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted table: its index block names the blocks that hold them."""
    footer = raw[-FOOTER_BYTES:]
    if len(raw) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise ValueError("its last bytes are not those of a table")
    _, _, at = _handle(footer, 0)  # of the block of metadata, which is empty
    offset, size, _ = _handle(footer, at)
    for _, value in _block(raw, offset, size):
        offset, size, _ = _handle(value, 0)
        yield from _block(raw, offset, size)


def _block(raw: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """A block's keys and values; each key is stored as what it shares with the one before, and the rest."""
    if offset + size + TRAILER_BYTES > len(raw):
        raise ValueError("a block ends outside the file")
    if raw[offset + size]:
        raise ValueError("a block is compressed")
    block, key, at = raw[offset : offset + size], b"", 0
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise ValueError("a key or a value ends outside its block")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _handle(raw: bytes, at: int) -> tuple[int, int, int]:
    offset, at = varint(raw, at)
    size, at = varint(raw, at)
    return offset, size, at


def _entry(name: str, message: bytes, data: MappedFile) -> TensorEntry:
    said = dict(fields(message))
    kind, offset, size = (as_int(said.get(number, 0)) for number in (1, 4, 5))
    shape = tuple(_shape(as_bytes(said.get(2, b""))))
    if as_int(said.get(3, 0)) or 7 in said:
        raise ValueError(f"{name} is cut into slices or lies in another file")
    if min(offset, size, *shape) < 0 or offset + size > data.size:
        raise ValueError(f"{name} ends outside {data.path.name}")
    is_float = kind == FLOAT
    if is_float and size != 4 * math.prod(shape):
        raise ValueError(f"{name} has {size} bytes for the shape {shape}")
    return TensorEntry(name, f"type {kind}", "f32" if is_float else None, shape, offset, size, data)


def _shape(message: bytes) -> Iterator[int]:
    """Sizes of a TensorShapeProto."""
    for number, value in fields(message):
        if number == 2:
            yield as_int(dict(fields(as_bytes(value))).get(1, 0))
