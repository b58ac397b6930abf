"""Writes GGUF files, version 3: metadata, then tensors one after another, each made only when it is written.

Unusual: tensors go to a file of their own first, so that their places are known without making one twice.
Source: the format's description in ggml (docs/gguf.md).
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from octavo.errors import OctavoError
from octavo.models.formats.gguf import MAGIC
from octavo.models.formats.tables.stored_types import ARRAY, BOOL, F32, GGUF_TYPES, I32, TEXT, U32
from octavo.models.tensors import StoredTensor
from octavo.writing import whole_file

VERSION, ALIGNMENT = 3, 32


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Iterable[tuple[str, StoredTensor]]) -> None:
    """Write a file, whole or not at all. metadata: key -> text, bool, int (u32), float (f32), or a list of one of them.

    Raises OctavoError where the disk does.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial, tempfile.TemporaryFile(dir=path.parent) as data, partial.open("wb") as file:
            places = [_append(data, name, tensor) for name, tensor in tensors]
            file.write(MAGIC + struct.pack("<IQQ", VERSION, len(places), len(metadata)))
            file.write(b"".join(_text(key) + _value(value) for key, value in metadata.items()))
            file.write(b"".join(places))
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            data.seek(0)
            shutil.copyfileobj(data, file, 1 << 20)
    except OSError as error:
        raise OctavoError(f"{path} cannot be written ({error.strerror}); free some space") from error


def _append(file: IO[bytes], name: str, tensor: StoredTensor) -> bytes:
    """Write a tensor's data; returns its description for the header."""
    offset = file.tell()
    file.write(tensor.data.tobytes())
    file.write(b"\0" * (-file.tell() % ALIGNMENT))
    shape = tensor.shape[::-1] or (1,)
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _text(name) + sizes + struct.pack("<IQ", GGUF_TYPES[tensor.encoding], offset)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """Its type, then itself."""
    if isinstance(value, str):
        return struct.pack("<I", TEXT) + _text(value)
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", F32, value)
    assert isinstance(value, list) and value, f"{value!r} is no value of GGUF's"
    return struct.pack("<I", ARRAY) + _array(value)


def _array(values: list[Any]) -> bytes:
    head = struct.Struct("<IQ")
    if isinstance(values[0], str):
        return head.pack(TEXT, len(values)) + b"".join(map(_text, values))
    kind, letter = (F32, "f") if isinstance(values[0], float) else (I32, "i")
    return head.pack(kind, len(values)) + struct.pack(f"<{len(values)}{letter}", *values)
