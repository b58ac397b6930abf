"""Packed weights on disk: written once after the first load of a model, mapped into memory by every later one.

A file is the magic, the header's length and SHA-256, the header (JSON) and the matrices, each from a cache line on.
Unusual: it is never trusted. Its identity must be that of the model's files as they are now, of this library and of
its packing, and its checksum that of its bytes; anything else counts as no file, and the weights are packed again.
Written beside and renamed, so that processes that race each see a whole file or none.
"""

from __future__ import annotations

import contextlib
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
from octavo.nn.kernels.handle import checksum, packed_bytes
from octavo.writing import whole_file

MAGIC = b"OCTAVOPK"
HEAD = struct.Struct("<8sQ32s")
LINE, PAGE, HUGE_PAGE = 64, 4096, 2 << 20
MOST_HEADER = 1 << 28
SMALLEST = 16 << 20
"""Bytes of weights below which packing takes no time worth a file."""
SAMPLES = 16
"""Pages of each source file that its identity reads, evenly spread."""
ABANDONED_SECONDS = 3600.0
"""Age at which a half-written file is nobody's any more."""


@dataclass(frozen=True)
class PackedMatrix:
    """encoding: a key of `codes.ENCODINGS`. data: the packed bytes."""

    encoding: str
    rows: int
    columns: int
    data: NDArray[np.uint8]


class PackCache:
    """The file for one model. path: where it is or would be. identity: of what it must have been packed from."""

    def __init__(self, path: Path, source: Path, identity: str) -> None:
        self.path = path
        self.source = source
        self.identity = identity

    def read(self) -> dict[str, PackedMatrix]:
        """Canonical name -> matrix, as views of the mapped file; empty where there is no file that can be trusted."""
        try:
            with self.path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _in_huge_pages(data)
            header = _read_header(data)
            return _matrices(data, header) if header["identity"] == self.identity else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def write(self, matrices: Mapping[str, PackedMatrix]) -> bool:
        """Write the file; whether it is there now. It is not where the folder or the disk refuses it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self.path.parent)
            with whole_file(self.path, lasting=False) as partial, partial.open("xb") as file:
                for page in _huge_pages(_pieces(matrices, {"identity": self.identity, "source": str(self.source)})):
                    file.write(page)
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


def _matrices(data: mmap.mmap, header: Mapping[str, Any]) -> dict[str, PackedMatrix]:
    everything = np.frombuffer(data, np.uint8)
    matrices = {}
    for name, (encoding, rows, columns, offset, expected) in header["matrices"].items():
        size, start = packed_bytes(encoding, rows, columns), header["start"] + offset
        packed = everything[start : start + size]
        if packed.size != size or checksum(packed) != expected:
            raise ValueError("truncated or damaged")
        matrices[name] = PackedMatrix(encoding, rows, columns, packed)
    return matrices


def _pieces(matrices: Mapping[str, PackedMatrix], header: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """The whole file, from its first byte on."""
    offsets = itertools.accumulate((_padded(matrix.data.size) for matrix in matrices.values()), initial=0)
    table = {
        name: (matrix.encoding, matrix.rows, matrix.columns, offset, checksum(matrix.data))
        for (name, matrix), offset in zip(matrices.items(), offsets, strict=False)
    }
    header = {**header, "matrices": table, "start": 0}
    room = _padded(HEAD.size + len(json.dumps(header)) + 20)  # of the start's own digits
    text = json.dumps({**header, "start": room}).encode()
    yield (HEAD.pack(MAGIC, len(text), hashlib.sha256(text).digest()) + text).ljust(room, b"\0")
    for matrix in matrices.values():
        yield matrix.data.data
        yield bytes(_padded(matrix.data.size) - matrix.data.size)


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
