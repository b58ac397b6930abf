"""A model's config from whatever names it: a folder, a config.json, a .gguf file, an installed or known name, the hub.

Unusual: weights are not needed. Where they lie beside the config, their headers say what they take as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo import settings
from octavo.errors import ModelNotFoundError
from octavo.examine.catalogue.named import named_models
from octavo.fetching.sources import name_of, parse_reference, resolve
from octavo.models.checkpoint import open_checkpoint, read_config
from octavo.models.families import find_family
from octavo.models.formats.folder import INDEX_NAME, WEIGHTS_NAME, read_json
from octavo.nn.config import TransformerConfig


@dataclass(frozen=True)
class Described:
    """A model by its config. stored: canonical name -> bytes of each tensor as it lies on disk; None: no weights."""

    name: str
    family: str
    config: TransformerConfig
    stored: dict[str, int] | None


def describe(reference: str, *, ignore_keys: Collection[str] = ()) -> Described:
    """The model that a reference means; of one on the hub that is not installed, only its config.json is fetched.

    Raises ModelNotFoundError for what is not there, and as `open_checkpoint` for a config that is not understood.
    """
    path = _locate(reference)
    if path is None:
        return describe_named(reference)
    if path.suffix == ".json":
        return _from_config(read_json(path), str(path), _own_name(reference, path), ignore_keys)
    if path.is_dir() and not any((path / name).is_file() for name in (WEIGHTS_NAME, INDEX_NAME)):
        config = path / "config.json"
        return _from_config(read_json(config), str(config), name_of(path), ignore_keys)
    checkpoint = open_checkpoint(path, ignore_keys=ignore_keys)
    stored = {name: tensor.nbytes for name, tensor in checkpoint.tensors.items()}
    return Described(name_of(path), checkpoint.family, checkpoint.config, stored)


def describe_named(name: str) -> Described:
    """A model of `catalogue.named`, by its packaged config."""
    return _from_config(named_models()[name].config, name, name, ())


def _locate(reference: str) -> Path | None:
    """The folder, .gguf or config.json of a reference; None: a named model that is not installed."""
    path = Path(reference).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path
    try:
        return resolve(reference)
    except ModelNotFoundError:
        if reference in named_models():
            return None
        parsed = parse_reference(reference)
        if parsed is None or parsed.kind != "hf" or parsed.file is not None:
            raise
    from octavo.fetching.hub import fetch_from_hub

    return fetch_from_hub(parsed.project, parsed.version, "config.json", offline=settings.offline(), show=False)[0]


def _own_name(reference: str, path: Path) -> str:
    parsed = parse_reference(reference)
    return path.resolve().parent.name if parsed is None else parsed.project


def _from_config(raw: Mapping[str, Any], source: str, name: str, ignore: Collection[str]) -> Described:
    family = find_family(raw.get("model_type"), source)
    return Described(name, family.name, read_config(family, raw, source, ignore), None)
