"""Writes a model as a Hugging Face folder that peers load: hub names, safetensors, whole or not at all.

No torch here: a torch model hands over `stored_tensors()`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, OctavoError
from octavo.models.families import find_family
from octavo.models.formats.folder import INDEX_NAME, WEIGHTS_NAME
from octavo.models.formats.joining.int8 import BLOCK, in_int8
from octavo.models.formats.safetensors import write_safetensors
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.generation import GenerationDefaults, write_generation
from octavo.models.mapping.keys import to_stored
from octavo.models.tensors import DENSE_DTYPES, StoredTensor
from octavo.nn.config import TransformerConfig
from octavo.writing import whole_folder

if TYPE_CHECKING:  # its library takes a while to import
    from octavo.text.tokenizer import Tokenizer

MAX_SHARD_BYTES = 5_000_000_000
DTYPE_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
MODEL_SUFFIXES = {".json", ".safetensors", ".model", ".txt", ".jinja", ".md"}
"""Files of a model folder, which a new model may replace."""

Weights = Mapping[str, StoredTensor | NDArray[np.float32] | NDArray[np.float16]]


def save_checkpoint(
    folder: Path,
    config: TransformerConfig,
    family: str,
    tensors: Weights,
    tokenizer: Tokenizer | None,
    generation: GenerationDefaults,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    int8: bool = False,
) -> None:
    """Write config.json, generation_config.json, the weights and the tokenizer's files into `folder`.

    tensors: every parameter of `config` by canonical name; quantised ones are expanded to float32. int8: matrices are
    written in eight bits with a scale for each 32 numbers, which peers do not read. A model that is there is replaced;
    a folder with anything else in it is refused. Raises OctavoError where the disk does.
    """
    row = find_family(family, str(folder))
    raw = hub_config(row, config, tokenizer, generation)
    stored = {name: _dense(tensor) for name, tensor in tensors.items()}
    raw["torch_dtype"] = DTYPE_NAMES[next(iter(stored.values())).encoding]
    with complete_folder(folder) as partial:
        _write_json(partial / "config.json", raw)
        _write_json(partial / "generation_config.json", write_generation(generation))
        makers = to_stored(stored, row.rules, config)
        if int8:
            makers = {name: functools.partial(_in_int8, make) for name, make in makers.items()}
        for name, value in row.constants_of(config).items():
            makers[name] = functools.partial(StoredTensor.from_array, np.array(value, np.float32))
        _write_weights(partial, makers, max_shard_bytes)
        if tokenizer is not None:
            tokenizer.save(partial)


def hub_config(
    family: Family, config: TransformerConfig, tokenizer: Tokenizer | None, generation: GenerationDefaults
) -> dict[str, Any]:
    """config.json of a model. Raises FormatError for a config that the family cannot express."""
    ids = list(generation.eos_token_ids)
    raw = {
        "architectures": [family.architecture],
        "model_type": family.name,
        **({} if tokenizer is None or tokenizer.bos_id is None else {"bos_token_id": tokenizer.bos_id}),
        "eos_token_id": ids[0] if len(ids) == 1 else ids or None,
        "pad_token_id": None if tokenizer is None else tokenizer.pad_id,
        **family.write_config(config),
    }
    if family.read_config(ConfigReader(raw, "the config to save")) != config:
        raise FormatError(f"a {family.name} config.json cannot express this model; save it as another family")
    return raw


def _dense(tensor: StoredTensor | NDArray[np.float32] | NDArray[np.float16]) -> StoredTensor:
    if isinstance(tensor, np.ndarray):
        return StoredTensor.from_array(tensor)
    return tensor if tensor.encoding in DENSE_DTYPES else StoredTensor.from_array(tensor.dequantize())


def _in_int8(make: Callable[[], StoredTensor]) -> StoredTensor:
    """A matrix whose rows are whole blocks in eight bits; any other tensor as it is."""
    tensor = make()
    if len(tensor.shape) != 2 or tensor.shape[1] % BLOCK:
        return tensor
    return in_int8(tensor)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_weights(folder: Path, makers: Mapping[str, Callable[[], StoredTensor]], max_shard_bytes: int) -> None:
    """One file, or shards of at most max_shard_bytes (a larger tensor has one of its own) with their index."""
    shards: list[dict[str, StoredTensor]] = [{}]
    size = total = 0
    for name, make in makers.items():
        tensor = make()
        if shards[-1] and size + tensor.nbytes > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    if len(shards) == 1:
        write_safetensors(folder / WEIGHTS_NAME, shards[0])
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_safetensors(folder / file, shard)
        weight_map.update(dict.fromkeys(shard, file))
    _write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": weight_map})


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """`whole_folder` in place of a model or of nothing, with what the disk says in words."""
    _refuse_foreign(folder)
    try:
        with whole_folder(folder) as partial:
            yield partial
    except OSError as error:
        raise OctavoError(
            f"the model could not be saved to {folder} ({error.strerror}); free some space or give another folder"
        ) from error


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OctavoError(f"{folder} is a file; give a folder to save the model to")
    for path in folder.iterdir() if folder.exists() else ():
        if path.suffix not in MODEL_SUFFIXES and path.name != "additional_chat_templates":
            raise OctavoError(f"{folder} holds {path.name}, which is not of a model; give another folder to save to")
