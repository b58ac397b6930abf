"""A CKIP Tagger's files: our folder of one network, and the published folder of three.

Ours: config.json, vocabulary.json, model.safetensors. The published one (`data/` of ckiptagger): embeddings in numpy's
format, lists of labels as text, and TensorFlow checkpoints, all of which are read as data, without TensorFlow.
Unusual: the published vectors of words, over a gigabyte, stay in the file's mapping. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, ModelNotFoundError, UnsupportedError
from octavo.models.formats.folder import WEIGHTS_NAME, read_json
from octavo.models.formats.safetensors import read_safetensors, write_safetensors
from octavo.models.formats.tensor_bundle import read_bundle
from octavo.models.recurrent.bilstm import Floats
from octavo.models.saving import complete_folder
from octavo.models.tables.tagger_keys import KINDS, PUBLISHED
from octavo.models.tensors import StoredTensor
from octavo.nn.recurrent.tagger_config import CHARACTER_FEATURES, TaggerConfig, TaggerTask

MODEL_TYPE = "ckip_tagger"
VOCABULARY_NAME = "vocabulary.json"
LARGEST = 1 << 24


@dataclass(frozen=True)
class TaggerFiles:
    """A network on disk. characters, words: the row of each in its table of vectors."""

    config: TaggerConfig
    tensors: Mapping[str, Floats]
    characters: Mapping[str, int]
    words: Mapping[str, int]


def is_tagger(folder: Path) -> bool:
    """Whether a folder holds one of our networks, or the published three."""
    if (folder / "embedding_character").is_dir():
        return True
    path = folder / "config.json"
    return path.is_file() and read_json(path).get("model_type") == MODEL_TYPE


def open_tagger(folder: Path, task: TaggerTask) -> TaggerFiles:
    """The network for a task. Raises UnsupportedError for a folder of another task, FormatError for damaged files."""
    if (folder / "embedding_character").is_dir():
        return _published(folder, task)
    config = _read_config(folder / "config.json")
    if config.task != task:
        raise UnsupportedError(f"{folder} is a CKIP Tagger for {config.task}, not for {task}; give one for {task}")
    vocabulary = read_json(folder / VOCABULARY_NAME)
    tables = [_texts(vocabulary.get(name, []), folder / VOCABULARY_NAME) for name in ("characters", "words")]
    if [len(table) for table in tables] != [config.num_characters, config.num_words]:
        raise FormatError(f"{folder / VOCABULARY_NAME} has not as many entries as config.json says")
    entries = read_safetensors(folder / WEIGHTS_NAME)
    tensors = {name: entry.read().dequantize() for name, entry in entries.items()}
    return _checked(folder, config, tensors, *tables)


def save_tagger(
    folder: Path, config: TaggerConfig, tensors: Mapping[str, Floats], characters: Sequence[str], words: Sequence[str]
) -> None:
    """Write one network into `folder`, whole or not at all; one that is there is replaced."""
    with complete_folder(folder) as partial:
        for name, value in (
            ("config.json", {"model_type": MODEL_TYPE, **asdict(config)}),
            (VOCABULARY_NAME, {"characters": list(characters), "words": list(words)}),
        ):
            text = json.dumps(value, ensure_ascii=False, indent=1 if name == "config.json" else None)
            (partial / name).write_text(text + "\n", encoding="utf-8")
        stored = {name: StoredTensor.from_array(np.ascontiguousarray(tensors[name])) for name in config.shapes()}
        write_safetensors(partial / WEIGHTS_NAME, stored)


def _read_config(path: Path) -> TaggerConfig:
    raw = read_json(path)
    del raw["model_type"]  # known since `is_tagger`
    for name, value in raw.items():
        if name not in KINDS or type(value) is not KINDS[name]:
            raise FormatError(f"{path} says {name} = {json.dumps(value)[:60]}; it knows {', '.join(KINDS)}", param=name)
        if isinstance(value, list) and not all(isinstance(text, str) for text in value):
            raise FormatError(f"{path} says {name} are something else than texts", param=name)
        if isinstance(value, int) and not 0 <= value <= LARGEST:
            raise FormatError(f"{path} says {name} = {value}, which is not a size", param=name)
    sizes: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    try:
        config = TaggerConfig(**sizes)
    except TypeError as error:
        raise FormatError(f"{path} lacks a key: {error}") from None
    least = (config.num_characters, config.character_size, config.hidden_size, config.num_layers, len(config.labels))
    if config.task not in CHARACTER_FEATURES or not all(least) or (config.reads_words and not config.num_words):
        raise FormatError(f"{path} is of no task that is known, or of an empty network")
    return config


def _published(folder: Path, task: TaggerTask) -> TaggerFiles:
    """One of the three of ckiptagger's data folder; its sizes are those of its tensors."""
    prefix = folder / PUBLISHED[task]
    scope = prefix.name + "/"
    entries = {name.removeprefix(scope): entry for name, entry in read_bundle(prefix).items() if scope in name}
    tensors = {name: entry.read().dequantize() for name, entry in entries.items() if "/Adam" not in name}
    characters, character_vectors = _embedding(folder / "embedding_character")
    words, word_vectors = ({}, None) if task == "ws" else _embedding(folder / "embedding_word")
    made = {"characters": character_vectors, **({} if word_vectors is None else {"words": word_vectors})}
    kernels = [name for name in tensors if name.endswith("/kernel") and "/fw/" in name]
    config = TaggerConfig(
        task,
        _published_labels(folder, task),
        len(character_vectors),
        character_vectors.shape[1],
        hidden_size=len(tensors.get("output_layer/kernel", ())) // 2,
        num_layers=len(kernels),
        num_words=0 if word_vectors is None else len(word_vectors),
        word_size=0 if word_vectors is None else word_vectors.shape[1],
        tags=tuple(_first_words(folder / "model_ner/pos_list.txt")) if task == "ner" else (),
    )
    try:
        return _checked(folder, config, {**made, **_from_tensorflow(tensors, config)}, characters, words)
    except (KeyError, ValueError) as error:
        raise FormatError(f"{prefix} lacks a tensor of CKIP Tagger or has one of another shape ({error})") from None


def _from_tensorflow(tensors: Mapping[str, Floats], config: TaggerConfig) -> dict[str, Floats]:
    """Our names and layout: TensorFlow keeps one matrix over input and state, its gates in the order input, cell,
    forget, output, and adds 1 to the forget gate when it runs."""
    unknown = ("unknown_w_v", "") if config.task == "ws" else ("unknown_c_v", "unknown_w_v")
    made = {"unknown_character": tensors[unknown[0]].reshape(-1)}
    if config.reads_words:
        made["unknown_word"] = tensors[unknown[1]].reshape(-1)
    for layer in range(config.num_layers):
        for end, direction in (("", "fw"), ("_reverse", "bw")):
            cell = f"cross-bilstm/bidirectional_rnn/{direction}/lstm_cell_{layer + 1}/"
            into, candidate, forget, output = np.split(tensors[cell + "kernel"].T, 4)
            kernel = np.concatenate((into, forget, candidate, output))
            width = kernel.shape[1] - config.hidden_size
            into, candidate, forget, output = np.split(tensors[cell + "bias"], 4)
            made[f"weight_ih_l{layer}{end}"] = np.ascontiguousarray(kernel[:, :width])
            made[f"weight_hh_l{layer}{end}"] = np.ascontiguousarray(kernel[:, width:])
            made[f"bias_l{layer}{end}"] = np.concatenate((into, forget + 1, candidate, output))
    made["output.weight"] = np.ascontiguousarray(tensors["output_layer/kernel"].T)
    made["output.bias"] = tensors["output_layer/bias"]
    return made


def _published_labels(folder: Path, task: TaggerTask) -> tuple[str, ...]:
    if task == "ws":
        return ("B", "I")
    listed = _first_words(folder / f"model_{task}/label_list.txt")
    if task == "pos":
        return tuple(listed)
    return ("O", *(f"{kind}:{place}" for kind in listed for place in "SBIE"))


def _first_words(path: Path) -> list[str]:
    """Of each line; what follows is how often it was seen."""
    try:
        return [line.split(" ")[0] for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise ModelNotFoundError(f"there is no file {path}") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not UTF-8; fetch it again") from None


def _embedding(folder: Path) -> tuple[dict[str, int], Floats]:
    """Rows by token, and the table of vectors, which stays in its file."""
    arrays: list[NDArray[Any]] = []
    for name in ("token_list.npy", "vector_list.npy"):
        try:
            arrays.append(np.load(folder / name, mmap_mode="r", allow_pickle=False))
        except FileNotFoundError:
            raise ModelNotFoundError(f"there is no file {folder / name}") from None
        except (ValueError, OSError, EOFError) as error:
            raise FormatError(f"{folder / name} is no array of numpy's, or a damaged one ({error})") from None
    tokens, vectors = arrays
    if tokens.ndim != 1 or tokens.dtype.kind != "U" or vectors.dtype.kind != "f" or vectors.shape[:1] != tokens.shape:
        raise FormatError(f"{folder} holds no texts with a vector each")
    if vectors.ndim != 2 or not vectors.size:
        raise FormatError(f"{folder / 'vector_list.npy'} is no table of vectors")
    return {token: row for row, token in enumerate(tokens.tolist())}, vectors


def _texts(value: Any, path: Path) -> dict[str, int]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise FormatError(f"{path} is no two lists of texts, characters and words")
    return {text: row for row, text in enumerate(value)}


def _checked(
    folder: Path,
    config: TaggerConfig,
    tensors: Mapping[str, Floats],
    characters: Mapping[str, int],
    words: Mapping[str, int],
) -> TaggerFiles:
    """Raises FormatError that names the first tensor that is missing, too many, or of another shape."""
    shapes = config.shapes()
    for name in sorted({*shapes, *tensors}):
        has = tensors[name].shape if name in tensors else "nothing"
        if has != shapes.get(name):
            raise FormatError(f"{folder} has {has} for the tensor {name}, not {shapes.get(name, 'nothing')}")
    return TaggerFiles(config, tensors, characters, words)
