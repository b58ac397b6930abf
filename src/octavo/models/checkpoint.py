"""`Checkpoint`: a model as it lies on disk, described and checked but not read: its tensors are taken when asked for.

One object for a Hugging Face folder (config.json, safetensors), for the authors' own files of LLaMA and Mistral
(params.json), and for a GGUF file. No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.errors import FormatError, ModelNotFoundError, UnsupportedError
from octavo.models.families import FAMILIES, find_family, find_gguf
from octavo.models.formats.folder import read_folder, read_json, read_json_if_there, refuse_pickle
from octavo.models.formats.gguf import read_gguf
from octavo.models.formats.joining.int8 import join_int8
from octavo.models.formats.joining.latent import join_latent
from octavo.models.formats.joining.mxfp4 import join_mxfp4, without_unpacked
from octavo.models.formats.mapped import MappedFile, TensorEntry
from octavo.models.formats.raw import PARAMS_NAME, is_raw, read_raw
from octavo.models.mapping import raw
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.generation import GenerationDefaults, gguf_ends, read_generation
from octavo.models.mapping.gguf import hub_config
from octavo.models.mapping.keys import KeyRule, expand, to_canonical
from octavo.models.mapping.tables import author_names
from octavo.models.mapping.tables.class_defaults import CLASS_DEFAULTS
from octavo.models.mapping.tables.config_keys import HARMLESS, NEUTRAL
from octavo.models.mapping.wrapped import split, text_config
from octavo.models.tensors import StoredTensor
from octavo.nn.config import TransformerConfig

if TYPE_CHECKING:  # its library takes a while to import, and weights do not need it
    from octavo.text.tokenizer import Tokenizer

__all__ = ["Checkpoint", "GenerationDefaults", "ScoreHead", "open_checkpoint"]

SCORE = "score."
"""What hub names of a decoder's head for classification begin with."""


@dataclass(frozen=True)
class ScoreHead:
    """What a decoder has in place of logits: weight (labels, hidden_size), and a bias (labels,) or none.

    per_token: whether each token is scored (a value head), or a whole text by its last token (a reward head).
    """

    weight: TensorEntry
    bias: TensorEntry | None
    per_token: bool


@dataclass(frozen=True)
class Checkpoint:
    """path: the folder or file. name: for people. family: a key of `families.FAMILIES`.

    raw_config: config.json, or a GGUF file's metadata in hub spelling. tensors: canonical name -> tensor, made when
    asked for, every shape as `parameter_shapes(config)` says. metadata: of a GGUF file, else None.
    score: of a decoder that writes no text but scores it.
    """

    path: Path
    name: str
    family: str
    config: TransformerConfig
    raw_config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    generation: GenerationDefaults
    metadata: Mapping[str, Any] | None = None
    files: tuple[MappedFile, ...] = field(default=(), repr=False)
    score: ScoreHead | None = None

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that lies with the weights."""
        from octavo.text.tokenizer import Tokenizer

        return Tokenizer.from_folder(self.path) if self.metadata is None else Tokenizer.from_gguf(self.metadata)

    def release(self) -> None:
        """Take the pages read so far out of resident memory; tensors stay usable and are read again when touched."""
        for file in self.files:
            file.release()


def open_checkpoint(path: Path, *, ignore_keys: Collection[str] = ()) -> Checkpoint:
    """Open a Hugging Face folder or a `.gguf` file; check all that its headers say, read no weights.

    ignore_keys: config keys to load the model without. Raises ModelNotFoundError, FormatError (damaged, pickle),
    UnknownNameError (family, key, tensor), UnsupportedError (known, but not done here).
    """
    if path.is_dir():
        return _open_folder(path, ignore_keys)
    if not path.exists():
        raise ModelNotFoundError(f"there is no model at {path}; give a folder with config.json or a .gguf file")
    refuse_pickle(path)
    if path.suffix == ".safetensors":
        raise FormatError(f"{path} is weights without their config; give its folder, {path.parent}")
    return _open_gguf(path, ignore_keys)


def _open_folder(folder: Path, ignore: Collection[str]) -> Checkpoint:
    if is_raw(folder):
        return _open_raw(folder, ignore)
    if not (folder / "config.json").is_file():
        refuse_pickle(folder)
        raise ModelNotFoundError(f"{folder} has no config.json; give a Hugging Face folder or a .gguf file")
    hub, entries = read_json(folder / "config.json"), read_folder(folder)
    if str(hub.get("model_type")) in FAMILIES:
        return checkpoint_of(folder, hub, entries, ignore)
    return open_text(folder, hub, entries, ignore)[0]


def open_text(
    folder: Path, hub: Mapping[str, Any], entries: Mapping[str, TensorEntry], ignore: Collection[str] = ()
) -> tuple[Checkpoint, dict[str, TensorEntry]]:
    """The language model of a folder that may hold others, and the tensors that are not its own."""
    language, rest = split(entries)
    text = text_config(hub, "lm_head.weight" not in language, str(folder / "config.json"))
    return checkpoint_of(folder, hub if text is None else text, language, ignore), rest


def checkpoint_of(
    folder: Path, hub: Mapping[str, Any], entries: Mapping[str, TensorEntry], ignore: Collection[str] = ()
) -> Checkpoint:
    """A model by its config in hub spelling and its tensors."""
    source = folder / "config.json"
    family = find_family(hub.get("model_type"), str(source))
    config = read_config(family, hub, str(source), ignore)
    entries = _with_prefix(join_int8(join_mxfp4(entries, str(folder)), str(folder)), family)
    score = _score_head(entries, hub) if config.encoder is None else None
    if score:
        config = replace(config, tie_embeddings=True, head_bias=False)
    config = _checked_head(_checked_tie(config, entries, family.rules), entries, family.rules)
    _check_constants(family, config, entries, str(folder))
    harmless = (*_harmless(family, config), *_guessing(hub, rf"model\.layers\.{config.num_layers}\..*"))
    tensors = to_canonical(entries, family.rules, config, harmless=harmless, source=str(folder))
    generation, name = _generation(folder, hub, ignore), folder.resolve().name
    return Checkpoint(folder, name, family.name, config, hub, tensors, generation, None, files_of(entries), score)


def _open_raw(folder: Path, ignore: Collection[str]) -> Checkpoint:
    source = folder / PARAMS_NAME
    params = read_json(source)
    entries = read_raw(folder, raw.hidden_size(params, str(source)))
    hub = raw.hub_config(params, entries, str(source), ignore)
    family = find_family(hub["model_type"], str(source))
    config = read_config(family, hub, str(source), ignore)
    tensors = to_canonical(
        entries, author_names.RULES, config, harmless=author_names.HARMLESS_TENSORS, source=str(folder)
    )
    generation, name = _generation(folder, hub, ignore), folder.resolve().name
    return Checkpoint(folder, name, family.name, config, hub, tensors, generation, None, files_of(entries))


def _open_gguf(path: Path, ignore: Collection[str]) -> Checkpoint:
    file = read_gguf(path)
    family, layout = find_gguf(file.metadata, str(path))
    hub = {"model_type": family.name, **hub_config(file, layout, ignore)}
    config = read_config(family, hub, str(path), ignore)
    harmless = (*layout.harmless_tensors, *_guessing(hub, rf"blk\.{config.num_layers}\..*"))
    tensors = to_canonical(join_latent(file.tensors), layout.rules, config, harmless=harmless, source=str(path))
    ends = {"eos_token_id": gguf_ends(file.metadata, str(path))}
    generation, files = _generation(path.parent, ends, ignore), files_of(file.tensors)
    return Checkpoint(path, path.stem, family.name, config, hub, tensors, generation, file.metadata, files)


def _generation(folder: Path, hub: Mapping[str, Any], ignore: Collection[str]) -> GenerationDefaults:
    """What a file beside the weights advises, of whatever kind they are."""
    path = folder / "generation_config.json"
    return read_generation(read_json_if_there(path), hub, str(path), ignore=ignore)


def read_config(family: Family, raw: Mapping[str, Any], source: str, ignore: Collection[str] = ()) -> TransformerConfig:
    """A config in the family's hub spelling to switches; every key is read, known to be harmless, or refused."""
    turns = any(key.startswith("rope_") and value is not None for key, value in raw.items())
    defaults = CLASS_DEFAULTS.get(family.name, {})
    left_out = [key for key in defaults if (not turns if key == "rope_parameters" else key not in raw)]
    found = {**without_unpacked(raw), **{key: defaults[key] for key in left_out}}
    reader = ConfigReader(found, source, ignore=ignore)
    reader.neutral({**NEUTRAL, **family.neutral_values})
    config = family.read_config(reader)
    reader.finish({**HARMLESS, **family.harmless_keys})
    return config


def _score_head(entries: dict[str, TensorEntry], hub: Mapping[str, Any]) -> ScoreHead | None:
    """The head of a decoder for classification, taken out of its tensors."""
    weight, bias = entries.pop(SCORE + "weight", None), entries.pop(SCORE + "bias", None)
    if weight is None or len(weight.shape) != 2:
        return None
    names = hub.get("architectures")
    return ScoreHead(weight, bias, isinstance(names, list) and str(names[:1]).endswith("ForTokenClassification']"))


def _with_prefix(entries: Mapping[str, TensorEntry], family: Family) -> dict[str, TensorEntry]:
    """Hub names with the body's prefix, which files of the bare body leave out."""
    if any(name.startswith(family.prefix) for name in entries):
        return dict(entries)
    return {
        name if name.startswith(("lm_head.", SCORE)) else family.prefix + name: entry for name, entry in entries.items()
    }


def _checked_tie(
    config: TransformerConfig, entries: Mapping[str, TensorEntry], rules: tuple[KeyRule, ...]
) -> TransformerConfig:
    """A config that says tied, while the file has a head of its own that differs: the file is right, as for peers."""
    names = {rule.canonical[0]: rule.stored for rule in expand(rules, replace(config, tie_embeddings=False))}
    head, embedding = entries.get(names.get("lm_head.weight", "")), entries.get(names.get("embed_tokens.weight", ""))
    if not config.tie_embeddings or head is None or embedding is None:
        return config
    same = (head.shape, head.kind) == (embedding.shape, embedding.kind)
    same = same and np.array_equal(head.read().data, embedding.read().data)
    return config if same else replace(config, tie_embeddings=False)


def _checked_head(
    config: TransformerConfig, entries: Mapping[str, TensorEntry], rules: tuple[KeyRule, ...]
) -> TransformerConfig:
    """A config whose architecture names a head that the file has nothing of: it is a bare body, as many are saved."""
    heads = {rule.stored for rule in expand(rules, config) if rule.canonical[0].startswith(("head.", "lm_head."))}
    if config.encoder is None or not heads or heads & entries.keys():
        return config
    return replace(config, encoder=replace(config.encoder, head=None))


def _guessing(hub: Mapping[str, Any], block: str) -> tuple[str, ...]:
    """The pattern of a block past the others that guesses further tokens, where a model has one."""
    return (block,) if hub.get("num_nextn_predict_layers") else ()


def _harmless(family: Family, config: TransformerConfig) -> tuple[str, ...]:
    """Patterns of tensors that may be there unused: a tied head, present and equal, is one."""
    constants = tuple(map(re.escape, family.constants_of(config)))
    if not config.tie_embeddings:
        return (*family.harmless_tensors, *constants)
    heads = [rule.stored for rule in family.rules if rule.canonical == ("lm_head.weight",)]
    return (*family.harmless_tensors, *constants, *heads)


def _check_constants(
    family: Family, config: TransformerConfig, entries: Mapping[str, TensorEntry], source: str
) -> None:
    """Refuse a file whose tensor of one number is not what the graph has built in, up to bfloat16's rounding."""
    for name, value in family.constants_of(config).items():
        found = entries[name].read().dequantize() if name in entries else value
        if not np.allclose(found, value, rtol=1e-2, atol=0):
            raise UnsupportedError(f"{source}: tensor {name!r} is not {value}, and no other number of it is known here")


def files_of(entries: Mapping[str, TensorEntry]) -> tuple[MappedFile, ...]:
    """The files that tensors lie in."""
    return tuple({id(entry.file): entry.file for entry in entries.values()}.values())
