"""What a model is, in a few lines, from its headers alone: for `octavo show`, and for the server's lists of models."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.tensors import StoredTensor


@dataclass(frozen=True)
class Summary:
    """size: bytes of its files. parameters: their number. encodings: bytes in each, most first."""

    checkpoint: Checkpoint
    size: int
    modified: datetime.datetime
    parameters: int
    weight_bytes: int
    encodings: dict[str, int]

    @property
    def encoding(self) -> str:
        """The one that most of the weights have."""
        return next(iter(self.encodings), "none")


def summarise(path: Path) -> Summary:
    """Describe the model of a folder or .gguf file. Raises what `open_checkpoint` raises."""
    checkpoint = open_checkpoint(path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    tensors = list(checkpoint.tensors.values())
    return Summary(
        checkpoint,
        size=sum(file.stat().st_size for file in files),
        modified=datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors),
        weight_bytes=sum(tensor.nbytes for tensor in tensors),
        encodings=_encodings(tensors),
    )


def _encodings(tensors: Iterable[StoredTensor]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.encoding] = sizes.get(tensor.encoding, 0) + tensor.nbytes
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))
