"""GGUF files, versions 2 and 3: metadata, and tensors as views of a memory map, checked before they are mapped.

Unusual: shapes are turned round here (the file lists the input width first), so matrices are (out, in) everywhere.
Source: the format's description in ggml (docs/gguf.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octavo.errors import FormatError, UnsupportedError
from octavo.models.formats.gguf_values import ValueReader
from octavo.models.formats.mapped import MappedFile, TensorEntry
from octavo.models.formats.tables.stored_types import GGUF_ENCODINGS, GGUF_OTHERS
from octavo.nn.encodings import BLOCK_FORMATS

MAGIC = b"GGUF"
MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class GgufFile:
    """metadata: key -> number, text, bool or list of them. tensors: by the names in the file."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorEntry]


def read_gguf(path: Path) -> GgufFile:
    """Open a file. Raises FormatError for a damaged one, UnsupportedError for one of a kind that is not read."""
    reader = ValueReader(MappedFile(path))
    tensor_count, value_count = _counts(reader)
    metadata: dict[str, Any] = {}
    for _ in range(value_count):
        key = reader.text("a key")
        if key in metadata:
            raise reader.fail(f"has the key {key!r} twice")
        metadata[key] = reader.value(repr(key))
    if metadata.get("split.count", 1) not in (0, 1):
        raise UnsupportedError(f"{path} is one part of a split model; merge the parts first (gguf-split --merge)")
    claims = [_claim(reader) for _ in range(tensor_count)]
    return GgufFile(path, metadata, _placed(reader, claims, metadata))


def _counts(reader: ValueReader) -> tuple[int, int]:
    file = reader.file
    if file.data[:4] != MAGIC:
        raise FormatError(f"{file.path} does not begin with {MAGIC.decode()}; it is not a GGUF file")
    reader.take(4, "the magic")
    version = reader.scalar("<I", "the version")
    if version not in (2, 3):
        what = "a big-endian file" if version in (2 << 24, 3 << 24) else f"version {version}"
        raise UnsupportedError(f"{file.path} is {what}; GGUF versions 2 and 3 in little-endian order are read")
    tensor_count = reader.scalar("<Q", "the number of tensors")
    value_count = reader.scalar("<Q", "the number of values")
    # The least a tensor takes: length 8, dimensions 4, type 4, offset 8; the least a value takes: length 8, type 4, 1.
    if tensor_count * 24 + value_count * 13 > file.size - reader.position:
        raise reader.fail(f"claims {tensor_count} tensors and {value_count} values in {file.size} bytes")
    return tensor_count, value_count


def _claim(reader: ValueReader) -> TensorEntry:
    """A tensor's description, its offset from where the data begins."""
    name = reader.text("a tensor's name")
    dimensions = reader.scalar("<I", f"the dimensions of {name!r}")
    if dimensions > MAX_DIMENSIONS:
        raise reader.fail(f"gives tensor {name!r} {dimensions} dimensions")
    shape = tuple(reader.scalar("<Q", f"the shape of {name!r}") for _ in range(dimensions))[::-1]
    kind = reader.scalar("<I", f"the type of {name!r}")
    offset = reader.scalar("<Q", f"the offset of {name!r}")
    if kind not in GGUF_ENCODINGS:
        raise UnsupportedError(
            f"{reader.file.path}: tensor {name!r} is stored as {GGUF_OTHERS.get(kind, f'type {kind}')}, which is not "
            "read; take a file with Q4_K, Q5_K, Q6_K, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, BF16, F16 or F32 weights"
        )
    encoding = GGUF_ENCODINGS[kind]
    block = BLOCK_FORMATS[encoding]
    width = shape[-1] if shape else 1
    if width % block.weights:
        raise reader.fail(f"gives tensor {name!r} rows of {width} weights, not whole {encoding} blocks")
    nbytes = math.prod(shape) // block.weights * block.bytes
    return TensorEntry(name, encoding.upper(), encoding, shape, offset, nbytes, reader.file)


def _placed(reader: ValueReader, claims: list[TensorEntry], metadata: Mapping[str, Any]) -> dict[str, TensorEntry]:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise reader.fail(f"has general.alignment {alignment!r}, which is not a power of two")
    data_start = -(-reader.position // alignment) * alignment
    entries: dict[str, TensorEntry] = {}
    end, previous = data_start, ""
    for claim in sorted(claims, key=lambda claim: claim.offset):
        if claim.name in entries:
            raise reader.fail(f"has tensor {claim.name!r} twice")
        entry = replace(claim, offset=data_start + claim.offset)
        if entry.offset + entry.nbytes > reader.file.size:
            raise reader.fail(
                f"claims {entry.nbytes} bytes at {entry.offset} for tensor {claim.name!r}, but the file has "
                f"{reader.file.size}"
            )
        if claim.offset % alignment or entry.offset < end:
            raise reader.fail(f"places tensor {claim.name!r} out of line or over {previous!r}")
        entries[claim.name] = entry
        end, previous = entry.offset + entry.nbytes, claim.name
    return entries
