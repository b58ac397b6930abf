"""Safetensors files, parsed by us: every claim of the header is checked before a byte of data is touched.

Unusual: bf16 stays bits (the library's numpy face refuses it), and tensors are views of a memory map.
Source: the format's README (huggingface/safetensors): u64 header length, JSON header, data without holes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError
from octavo.models.formats.joining.int8 import SCALES, split_int8
from octavo.models.formats.mapped import MappedFile, TensorEntry
from octavo.models.formats.tables.stored_types import ELEMENT_BITS, SAFETENSORS_ENCODINGS, SAFETENSORS_KINDS
from octavo.models.tensors import StoredTensor

MAX_HEADER_BYTES = 100_000_000
"""The cap of the format's own library."""


def read_safetensors(path: Path) -> dict[str, TensorEntry]:
    """The tensors of one file, by name. Raises FormatError for anything the format does not allow."""
    file = MappedFile(path)
    header, data_start = _header(file)
    entries = [_entry(file, name, claim, data_start) for name, claim in header.items() if name != "__metadata__"]
    _check_coverage(file, entries, data_start)
    return {entry.name: entry for entry in entries}


def write_safetensors(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Write dense tensors, and matrices in q8_0 as a pair, to `path`, in the mapping's order.

    The caller gives a path that may be half-written.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts: list[memoryview] = []
    offset = 0
    for name, kind, array in _stored(tensors):
        end = offset + array.nbytes
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, end]}
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.writelines((len(text).to_bytes(8, "little"), text, *parts))


def _stored(tensors: Mapping[str, StoredTensor]) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Name, dtype and array of what the file holds."""
    for name, tensor in tensors.items():
        if tensor.encoding == "q8_0":
            numbers, scales = split_int8(tensor)
            yield name, "I8", numbers
            yield name + SCALES, "F16", scales
        else:
            assert tensor.encoding in SAFETENSORS_KINDS, f"{name} is {tensor.encoding}; safetensors holds dense tensors"
            yield name, SAFETENSORS_KINDS[tensor.encoding], tensor.bits()


def _header(file: MappedFile) -> tuple[dict[str, Any], int]:
    if file.size < 8:
        raise _broken(file, f"has only {file.size} bytes")
    length = int.from_bytes(file.data[:8], "little")
    if length > min(MAX_HEADER_BYTES, file.size - 8):
        raise _broken(file, f"claims a header of {length} bytes in a file of {file.size}")
    try:
        header = json.loads(file.data[8 : 8 + length].decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(file, f"has a header that is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _broken(file, "has a header that is not a JSON object")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken(file, "has __metadata__ that is not a map of texts")
    return header, 8 + length


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"{key!r} occurs twice")
        result[key] = value
    return result


def _entry(file: MappedFile, name: str, claim: Any, data_start: int) -> TensorEntry:
    if not isinstance(claim, dict) or set(claim) != {"dtype", "shape", "data_offsets"}:
        raise _broken(file, f"describes tensor {name!r} by something else than dtype, shape and data_offsets")
    kind, shape, offsets = claim["dtype"], claim["shape"], claim["data_offsets"]
    if not isinstance(kind, str) or kind not in ELEMENT_BITS:
        raise _broken(file, f"gives tensor {name!r} the unknown dtype {kind!r}")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise _broken(file, f"gives tensor {name!r} a shape or offsets that are not whole numbers")
    begin, end = offsets
    if not begin <= end <= file.size - data_start:
        raise _broken(file, f"places tensor {name!r} at bytes {begin} to {end} of {file.size - data_start} of data")
    if math.prod(shape) * ELEMENT_BITS[kind] != 8 * (end - begin):
        raise _broken(file, f"gives tensor {name!r} ({kind} {shape}) {end - begin} bytes")
    return TensorEntry(name, kind, SAFETENSORS_ENCODINGS.get(kind), tuple(shape), data_start + begin, end - begin, file)


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_coverage(file: MappedFile, entries: list[TensorEntry], data_start: int) -> None:
    """The format wants the data wholly covered, without overlap."""
    end = data_start
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.nbytes)):
        if entry.offset != end:
            raise _broken(file, f"has {'an overlap' if entry.offset < end else 'a hole'} before tensor {entry.name!r}")
        end += entry.nbytes
    if end != file.size:
        raise _broken(file, f"has {file.size - end} bytes that no tensor uses")


def _broken(file: MappedFile, what: str) -> FormatError:
    return FormatError(f"{file.path} {what}: it is truncated or not a safetensors file; fetch it again")
