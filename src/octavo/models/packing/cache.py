"""Packed weights on disk: written once after the first load of a model, mapped into memory by every later one.

A file is the magic, the header's length and SHA-256, the header (JSON) and the matrices, each from a cache line on.
Unusual: it is never trusted. Its identity must be that of the model's files as they are now, of this library and of
its packing, and its checksum that of its bytes; anything else counts as no file, and the weights are packed again.
Written beside and renamed, so that processes that race each see a whole file or none.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import mmap
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from octavo import settings
from octavo.fetching.packed import packed_folder, packed_stem
from octavo.models.checkpoint import Checkpoint
from octavo.models.formats.mapped import MappedFile
from octavo.nn.kernels.binding import library, library_path
from octavo.nn.kernels.handle import checksum, pack, packed_bytes
from octavo.writing import whole_file

MAGIC = b"OCTAVOPK"
HEAD = struct.Struct("<8sQ32s")
LINE, PAGE, HUGE_PAGE = 64, 4096, 2 << 20
PANEL, PIECE = 16, 1 << 22
"""Rows that are packed together; bytes that are packed and summed at a time."""
MOST_CHECKSUM = (1 << 64) - 1
MOST_HEADER = 1 << 28
SMALLEST = 16 << 20
"""Bytes of weights below which packing takes no time worth a file."""
SAMPLES = 16
"""Pages of each source file that its identity reads, evenly spread."""
ABANDONED_SECONDS = 3600.0
"""Age at which a half-written file is nobody's any more."""


@dataclass(frozen=True)
class PackedMatrix:
    """encoding: a key of `codes.ENCODINGS`. data: the packed bytes, or the rows as they are where it is stored."""

    encoding: str
    rows: int
    columns: int
    data: NDArray[np.uint8]
    stored: bool = False

    def pieces(self) -> Iterator[NDArray[np.uint8]]:
        """The packed bytes, some panels at a time, so that packing takes little memory."""
        step = PANEL * max(1, PIECE // packed_bytes(self.encoding, PANEL, self.columns))
        for first in range(0, self.rows, step):
            shape = self.encoding, min(step, self.rows - first), self.columns
            if self.stored:
                yield pack(*shape, self.data[first : first + step])
            else:
                start = packed_bytes(self.encoding, first, self.columns)
                yield self.data[start : start + packed_bytes(*shape)]


class PackCache:
    """The file for one model. path: where it is or would be. identity: of what it must have been packed from."""

    def __init__(self, path: Path, source: Path, identity: str) -> None:
        self.path = path
        self.source = source
        self.identity = identity

    def read(self, *, check: bool = True) -> dict[str, PackedMatrix]:
        """Canonical name -> matrix, as views of the mapped file; empty where there is no file that can be trusted.

        check: whether its bytes are, too, which reads them all; not of a file that was written a moment ago.
        """
        try:
            with self.path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _in_huge_pages(data)
            header = _read_header(data)
            return _matrices(data, header, check) if header["identity"] == self.identity else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write(self, matrices: Mapping[str, PackedMatrix]) -> bool:
        """Write the file; whether it is there now. It is not where the folder or the disk refuses it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self.path.parent)
            with whole_file(self.path, lasting=False) as partial, partial.open("xb") as file:
                facts: dict[str, Any] = {"identity": self.identity, "source": str(self.source)}
                facts["matrices"], facts["start"] = _table(matrices), 0
                facts["start"] = _padded(HEAD.size + len(json.dumps(facts)) + 20)  # of the start's own digits
                for page in _huge_pages(_pieces(matrices, facts)):
                    file.write(page)
                text = json.dumps(facts).encode()
                file.seek(0)
                file.write(HEAD.pack(MAGIC, len(text), hashlib.sha256(text).digest()) + text)
        except OSError:
            return False
        return True


def pack_cache(checkpoint: Checkpoint, quantize: str | None = None) -> PackCache | None:
    """The cache of a checkpoint's packed weights, quantised so; None where it is turned off, or the model small."""
    size = sum(file.size for file in checkpoint.files)
    if not settings.pack_cache() or size < SMALLEST:
        return None
    source = checkpoint.path.resolve()
    suffix = "" if quantize is None else f"-{quantize}"
    return PackCache(packed_folder() / f"{packed_stem(source)}{suffix}.packed", source, _identity(checkpoint))


def _identity(checkpoint: Checkpoint) -> str:
    """Of everything that packed bytes depend on: the files, how the config reads them, and the code that packs."""
    path = library_path()
    built = None if path is None else path.stat()
    code = (library().octavo_packing(), built and (built.st_size, built.st_mtime_ns))
    facts = (code, checkpoint.family, repr(checkpoint.config), [_fingerprint(file) for file in checkpoint.files])
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _fingerprint(file: MappedFile) -> tuple[int, int, str]:
    digest = hashlib.sha256()
    for index in range(SAMPLES):
        offset = (file.size - 1) * index // (SAMPLES - 1) // PAGE * PAGE
        digest.update(file.bytes_at(offset, min(PAGE, file.size - offset)).data)
    return file.size, file.path.stat().st_mtime_ns, digest.hexdigest()


def _read_header(file: BinaryIO | mmap.mmap) -> dict[str, Any]:
    magic, length, digest = HEAD.unpack(file.read(HEAD.size).ljust(HEAD.size))
    text = file.read(min(length, MOST_HEADER)) if magic == MAGIC else b""
    if hashlib.sha256(text).digest() != digest:
        raise ValueError("no header of ours")
    header: dict[str, Any] = json.loads(text)
    return header


def _matrices(data: mmap.mmap, header: Mapping[str, Any], check: bool) -> dict[str, PackedMatrix]:
    everything = np.frombuffer(data, np.uint8)
    matrices = {}
    for name, (encoding, rows, columns, offset, expected) in header["matrices"].items():
        size, start = packed_bytes(encoding, rows, columns), header["start"] + offset
        matrix = matrices[name] = PackedMatrix(encoding, rows, columns, everything[start : start + size])
        if matrix.data.size != size or (check and _checksum(matrix.pieces()) != expected):
            raise ValueError("truncated or damaged")
    return matrices


def _table(matrices: Mapping[str, PackedMatrix]) -> dict[str, list[Any]]:
    """What the header says of each matrix; the last is its checksum, once it is written."""
    sizes = [packed_bytes(matrix.encoding, matrix.rows, matrix.columns) for matrix in matrices.values()]
    offsets = itertools.accumulate(map(_padded, sizes), initial=0)
    return {
        name: [matrix.encoding, matrix.rows, matrix.columns, offset, MOST_CHECKSUM]
        for (name, matrix), offset in zip(matrices.items(), offsets, strict=False)
    }


def _pieces(matrices: Mapping[str, PackedMatrix], facts: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """The file, room for its header first; checksums come into the header's facts on the way."""
    yield bytes(facts["start"])
    for name, matrix in matrices.items():
        total, size = 0, 0
        for piece in matrix.pieces():
            total, size = _added(total, piece), size + piece.size
            yield piece.data
        facts["matrices"][name][-1] = total
        yield bytes(_padded(size) - size)


def _checksum(pieces: Iterator[NDArray[np.uint8]]) -> int:
    return functools.reduce(_added, pieces, 0)


def _added(total: int, piece: NDArray[np.uint8]) -> int:
    return (total * 31 + checksum(piece)) % (MOST_CHECKSUM + 1)


def _huge_pages(pieces: Iterator[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes in huge pages, the last one shorter: written so, a file lies in such pages in memory, too."""
    page, filled = memoryview(bytearray(HUGE_PAGE)), 0
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = min(len(rest), HUGE_PAGE - filled)
            page[filled : filled + taken] = rest[:taken]
            filled, rest = (filled + taken) % HUGE_PAGE, rest[taken:]
            if not filled:
                yield page
    yield page[:filled]


def _in_huge_pages(data: mmap.mmap) -> None:
    """Ask for few large pages of a mapped file instead of many small ones; a wish that many systems do not grant.

    Reading weights once a token, a processor otherwise spends a tenth of its time on finding pages.
    """
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            data.madvise(mmap.MADV_HUGEPAGE)


def _padded(size: int) -> int:
    return -(-size // LINE) * LINE


def _sweep(folder: Path) -> None:
    """Delete what nobody will read: half-written files of dead processes, and what was packed from lost models."""
    for path in folder.glob(".*.packed.*"):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
    for path in folder.glob("*.packed"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open("rb") as file:
            if not Path(_read_header(file)["source"]).exists():
                path.unlink()
