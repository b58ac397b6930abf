"""Weights that torch wrote as a pickle (`.bin`, `.pth`): read by torch's own unpickler of tensors alone, mapped.

Unusual: `weights_only` runs no code of the file, and whatever is not a plain map of names to dense tensors is refused;
so is a tensor that claims more numbers than its file has bytes. Files of torch before 1.6 are no zip and are refused.
Source: torch's documentation of `torch.load` and `weights_only`.
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from octavo.errors import FormatError
from octavo.models.formats.mapped import MappedFile, TensorEntry
from octavo.models.torch_tensors import ENCODINGS, from_torch
from octavo.progress import say


def read_pickle(path: Path) -> dict[str, TensorEntry]:
    """The tensors of one file, by name; says on stderr what kind of file it is.

    Raises FormatError for a file that is damaged, old, or holds anything but named tensors.
    """
    file = MappedFile(path)
    if not zipfile.is_zipfile(path):
        raise FormatError(
            f"{path} is truncated, or a pickle of torch before 1.6, which is not read; fetch it again, or save its "
            "tensors as safetensors"
        )
    say(f"{path} is a pickle: only its tensors are read and no code in it runs; safetensors would be safer and faster")
    try:
        found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # the unpickler raises whatever a damaged file makes of it
        reason = str(error).split("\n")[0][:120]
        raise FormatError(f"{path} holds more than tensors, or is damaged, and is not opened ({reason})") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise FormatError(f"{path} holds a {type(found).__name__}, not tensors by their names; save its state_dict")
    return {name: _entry(file, name, tensor) for name, tensor in found.items()}


def _entry(file: MappedFile, name: str, tensor: object) -> TensorEntry:
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        raise FormatError(f"{file.path} has {name!r}, which is no dense tensor; save its state_dict")
    if tensor.numel() * tensor.element_size() > file.size:
        raise FormatError(f"{file.path} claims more numbers for {name!r} than the file has bytes; fetch it again")
    kind = str(tensor.dtype).removeprefix("torch.")
    nbytes = tensor.numel() * tensor.element_size()
    encoding, make = ENCODINGS.get(tensor.dtype), partial(from_torch, tensor.detach())
    return TensorEntry(name, kind, encoding, tuple(tensor.shape), 0, nbytes, file, make)
