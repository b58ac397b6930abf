"""The authors' own files of LLaMA and Mistral: `params.json` beside `consolidated.*`, in one file or one a processor.

Unusual: of a model that was split between processors each file has a part of every matrix, some by rows and some by
columns; they are joined when a tensor is taken. Source: Meta's `llama` and Mistral's `mistral-inference` repositories.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from octavo.errors import FormatError
from octavo.models.formats.folder import WEIGHTS_NAME, read_folder, read_weights
from octavo.models.formats.mapped import TensorEntry
from octavo.models.mapping.tables.author_names import EMBEDDING
from octavo.models.tensors import StoredTensor

PARAMS_NAME = "params.json"
BY_COLUMNS = re.compile(r".*\.(wo|w2)\.weight")


def is_raw(folder: Path) -> bool:
    """Whether a folder holds a model as its authors' code has it, and not as the hub's has it."""
    hub = any((folder / name).is_file() for name in ("config.json", WEIGHTS_NAME))
    return not hub and (folder / PARAMS_NAME).is_file()


def read_raw(folder: Path, hidden_size: int) -> dict[str, TensorEntry]:
    """All tensors, by the names in the files; parts of processors as one. Raises FormatError where they do not fit."""
    files = sorted(folder.glob("consolidated.[0-9]*.pth"))
    if not files:
        return read_folder(folder)
    numbers = [file.name.split(".")[1] for file in files]
    if numbers != [f"{number:02}" for number in range(len(files))]:
        raise FormatError(f"{folder} has the parts {', '.join(numbers)} of a model, not all from 00 on; fetch them")
    parts = [read_weights(file) for file in files]
    if len(parts) == 1:
        return parts[0]
    for file, part in zip(files, parts, strict=True):
        if part.keys() != parts[0].keys():
            raise FormatError(f"{file} and {files[0].name} hold tensors of other names; fetch them again")
    return {name: _joined([part[name] for part in parts], hidden_size) for name in parts[0]}


def _joined(parts: list[TensorEntry], hidden_size: int) -> TensorEntry:
    """Vectors are whole in each file; the table of embeddings was split by columns before LLaMA 3, by rows since."""
    first = parts[0]
    if len(first.shape) < 2:
        return first
    axis = int(BY_COLUMNS.fullmatch(first.name) is not None)
    if first.name == EMBEDDING:
        axis = int(first.shape[1] != hidden_size)
    if any(_without(part.shape, axis) != _without(first.shape, axis) or part.kind != first.kind for part in parts):
        raise FormatError(f"{first.file.path}: tensor {first.name!r} does not fit its other parts; fetch them again")
    length = sum(part.shape[axis] for part in parts)
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    nbytes = sum(part.nbytes for part in parts)
    return replace(first, shape=shape, nbytes=nbytes, make=partial(_whole, parts, axis))


def _whole(parts: list[TensorEntry], axis: int) -> StoredTensor:
    """Of a matrix that was split along `axis`, copied."""
    read = [part.read() for part in parts]
    return StoredTensor.from_bits(read[0].encoding, np.concatenate([part.bits() for part in read], axis))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]
