"""A file mapped into memory, and a tensor's place in it.

Pages are read when touched; `release` takes the touched ones out of the process's resident set again.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, ModelNotFoundError, UnsupportedError
from octavo.models.tensors import StoredTensor, data_shape
from octavo.nn.encodings import Encoding


class MappedFile:
    """path, size in bytes and `data`, the whole file as bytes-like. It closes when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.size = path.stat().st_size
                if self.size == 0:
                    raise FormatError(f"{path} is empty; fetch the file again")
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise ModelNotFoundError(f"there is no file {path}") from None
        except OSError as error:
            raise FormatError(f"{path} cannot be read ({error.strerror}); check the file and its permissions") from None

    def bytes_at(self, offset: int, count: int) -> NDArray[np.uint8]:
        """A read-only view of `count` bytes, which lie in the file."""
        assert offset >= 0 and offset + count <= self.size, "outside the file"
        return np.frombuffer(self.data, np.uint8, count, offset)

    def release(self) -> None:
        """Drop the mapped pages from resident memory; views stay valid and read them again when touched."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.data.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: validated, not yet touched. encoding None: of a kind that holds no weights for us.

    make: what puts it together where it does not lie in one piece.
    """

    name: str
    kind: str
    encoding: Encoding | None
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    file: MappedFile
    make: Callable[[], StoredTensor] | None = field(default=None, repr=False)

    def read(self) -> StoredTensor:
        """The tensor, a view of the map where it lies in one piece. Raises UnsupportedError for a kind such as I64."""
        if self.encoding is None:
            raise UnsupportedError(
                f"{self.file.path}: tensor {self.name!r} is stored as {self.kind}, which is not read as weights; "
                "convert it to F32, F16 or BF16"
            )
        if self.make is not None:
            return self.make()
        data = self.file.bytes_at(self.offset, self.nbytes)
        return StoredTensor(self.encoding, self.shape, data.reshape(data_shape(self.encoding, self.shape)))

    def slab(self, index: int) -> StoredTensor:
        """One entry of its first dimension, which counts experts."""
        return self.read().slab(index)
