"""The weights of a Hugging Face folder: one safetensors file, or shards with their index; pickle is refused by name.

Source: `model.safetensors.index.json` as the hub's tools write it: {"metadata": ..., "weight_map": {tensor: file}}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from octavo.errors import FormatError, ModelNotFoundError
from octavo.models.formats.mapped import TensorEntry
from octavo.models.formats.safetensors import read_safetensors

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises FormatError for anything else, ModelNotFoundError where it is absent."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror}); check the file and its permissions") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not JSON ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds a JSON {type(value).__name__}, not an object; fetch it again")
    return value


def read_folder(folder: Path) -> dict[str, TensorEntry]:
    """All tensors of the folder, by the names in its files."""
    if (folder / INDEX_NAME).is_file():
        return _read_shards(folder)
    if (folder / WEIGHTS_NAME).is_file():
        return read_safetensors(folder / WEIGHTS_NAME)
    refuse_pickle(folder)
    raise ModelNotFoundError(f"{folder} has no {WEIGHTS_NAME}; give a folder with safetensors weights or a .gguf file")


def refuse_pickle(path: Path) -> None:
    """Raise FormatError when `path` is a pickle checkpoint or a folder whose weights are one."""
    found = [path] if path.is_file() else sorted(path.iterdir())
    for file in found:
        if file.suffix in PICKLE_SUFFIXES:
            raise FormatError(
                f"{file} is a pickle checkpoint, which can run code when it is read and is not opened; "
                "convert it to safetensors (save_pretrained with transformers does)"
            )


def _read_shards(folder: Path) -> dict[str, TensorEntry]:
    index = folder / INDEX_NAME
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise FormatError(f"{index} has no weight_map of tensor names to file names; fetch it again")
    entries: dict[str, TensorEntry] = {}
    for name in sorted(set(weight_map.values())):
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise FormatError(f"{index} names {name!r}, which is not a safetensors file of its folder; fetch it again")
        if not (folder / name).is_file():
            raise FormatError(f"{folder / name} is missing, and {index.name} names it; fetch it")
        for tensor, entry in read_safetensors(folder / name).items():
            if weight_map.get(tensor) != name:
                raise FormatError(f"{folder / name} holds tensor {tensor!r}, but {index.name} does not place it there")
            entries[tensor] = entry
    for tensor, name in weight_map.items():
        if tensor not in entries:
            raise FormatError(f"{folder / name} lacks tensor {tensor!r}, which {index.name} places there; fetch it")
    return entries
