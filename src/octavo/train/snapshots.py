"""Checkpoints of a run: one `.npz` file each, written beside, synced and renamed, so that a crash leaves the last one.

Unusual: no pickle anywhere. Numpy's zip holds named arrays and one JSON text of facts, and its checksums find damage.
The last two are kept, so that even a damaged newest file costs only the steps since the one before.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, OctavoError
from octavo.writing import whole_file

KEPT = 2
_FACTS = "facts"


@dataclass(frozen=True)
class Snapshot:
    """Named arrays and JSON facts (among them `step`)."""

    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done when it was taken."""
        return int(self.facts["step"])

    def group(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays whose name starts with `prefix/`, without it."""
        return {name.removeprefix(prefix + "/"): a for name, a in self.arrays.items() if name.startswith(prefix + "/")}


class Snapshots:
    """The checkpoints in a folder: `step-00000250.npz`, and `best.npz` with the parameters of the best validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(".*.partial-*"):  # left by a process that was killed while writing
            partial.unlink()

    @property
    def best(self) -> Path:
        """Where the best parameters are, if there are any yet."""
        return self.folder / "best.npz"

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.folder / f"step-{step:08d}.npz"

    def steps(self) -> list[int]:
        """Steps that have a file, ascending."""
        return sorted(int(path.stem.removeprefix("step-")) for path in self.folder.glob("step-*.npz"))

    def save(self, snapshot: Snapshot) -> Path:
        """Write a step's checkpoint, then remove those older than the last two."""
        path = self.path(snapshot.step)
        write(path, snapshot)
        for step in self.steps()[:-KEPT]:
            self.path(step).unlink()
        return path

    def readable(self) -> Iterator[tuple[Path, Snapshot | FormatError]]:
        """Newest first: each file with its content, or with what is wrong with it."""
        for step in reversed(self.steps()):
            try:
                yield self.path(step), read(self.path(step))
            except FormatError as error:
                yield self.path(step), error


def write(path: Path, snapshot: Snapshot) -> None:
    """Write atomically: either the whole new file is at `path` afterwards, or what was there before.

    Raises OctavoError when the disk refuses; nothing partial remains.
    """
    facts = np.frombuffer(json.dumps(snapshot.facts).encode(), np.uint8)
    try:
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_FACTS: facts, **snapshot.arrays})
    except OSError as error:
        raise OctavoError(
            f"the checkpoint {path} could not be written: {error.strerror or error}; what was saved before is intact: "
            "make room and run the same command to go on from there"
        ) from error


def read(path: Path) -> Snapshot:
    """Read a checkpoint whole. Raises FormatError when it is truncated, damaged or not one of ours."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(arrays.pop(_FACTS).tobytes())
        snapshot = Snapshot(arrays, facts)
        assert snapshot.step >= 0
        return snapshot
    except FileNotFoundError:
        raise FormatError(f"there is no checkpoint at {path}") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise FormatError(f"the checkpoint {path} is damaged: {error}") from None
