"""The weights of a model's folder: one safetensors file, or shards with their index; else torch's pickles.

Source: `model.safetensors.index.json` as the hub's tools write it: {"metadata": ..., "weight_map": {tensor: file}}.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from octavo.errors import FormatError, MissingDependencyError, ModelNotFoundError
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


def read_json_if_there(path: Path) -> dict[str, Any]:
    """The same; nothing where there is no such file."""
    return read_json(path) if path.is_file() else {}


def read_folder(folder: Path) -> dict[str, TensorEntry]:
    """All tensors of the folder, by the names in its files: safetensors, else torch's pickles, read without their code.

    Raises ModelNotFoundError where there are none, MissingDependencyError for pickles where torch is not installed.
    """
    for name in (WEIGHTS_NAME, "pytorch_model.bin", "consolidated.safetensors"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _read_shards(index, Path(name).suffix)
        if (folder / name).is_file():
            return read_weights(folder / name)
    refuse_pickle(folder)
    raise ModelNotFoundError(f"{folder} has no {WEIGHTS_NAME}; give a folder with safetensors weights or a .gguf file")


def read_weights(path: Path) -> dict[str, TensorEntry]:
    """The tensors of one file of safetensors, or of one that torch pickled."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if find_spec("torch") is None:
        raise MissingDependencyError(
            f"{path} is a pickle checkpoint, which torch reads; pip install 'octavo[torch]', or convert it to "
            "safetensors (save_pretrained with transformers does)"
        )
    from octavo.models.formats.torch_pickle import read_pickle

    return read_pickle(path)


def refuse_pickle(path: Path) -> None:
    """Raise FormatError when `path` is a pickle checkpoint, or a folder of one that is not read."""
    found = [path] if path.is_file() else sorted(path.iterdir())
    for file in found:
        if file.suffix in PICKLE_SUFFIXES:
            raise FormatError(
                f"{file} is a pickle checkpoint, which is only read as pytorch_model.bin in the folder of its "
                "config.json; convert it to safetensors (save_pretrained with transformers does)"
            )


def _read_shards(index: Path, suffix: str) -> dict[str, TensorEntry]:
    folder = index.parent
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise FormatError(f"{index} has no weight_map of tensor names to file names; fetch it again")
    entries: dict[str, TensorEntry] = {}
    for name in sorted(set(weight_map.values())):
        if name != Path(name).name or not name.endswith(suffix):
            raise FormatError(f"{index} names {name!r}, which is not a {suffix[1:]} file of its folder; fetch it again")
        if not (folder / name).is_file():
            raise FormatError(f"{folder / name} is missing, and {index.name} names it; fetch it")
        for tensor, entry in read_weights(folder / name).items():
            if weight_map.get(tensor) != name:
                raise FormatError(f"{folder / name} holds tensor {tensor!r}, but {index.name} does not place it there")
            entries[tensor] = entry
    for tensor, name in weight_map.items():
        if tensor not in entries:
            raise FormatError(f"{folder / name} lacks tensor {tensor!r}, which {index.name} places there; fetch it")
    return entries
