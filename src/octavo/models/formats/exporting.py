"""A model out of Octavo: as a GGUF file for llama.cpp and its kin, or as a Hugging Face folder.

Unusual: what is written is read back as a config before a weight is touched, so that a file never says less than the
model is: a family or a switch that the format cannot express is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from octavo.errors import OctavoError, UnsupportedError
from octavo.models.checkpoint import Checkpoint
from octavo.models.families import FAMILIES
from octavo.models.formats.blocks import WrittenEncoding, encoded
from octavo.models.formats.gguf_writing import write_gguf
from octavo.models.formats.tables.stored_types import GGUF_FILE_TYPES
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import divided
from octavo.models.mapping.gguf_decoder import metadata_of
from octavo.models.mapping.keys import expand, to_stored
from octavo.models.mapping.rope import yarn_of
from octavo.models.saving import save_checkpoint
from octavo.models.tensors import StoredTensor
from octavo.nn.config import RopeConfig, TransformerConfig
from octavo.nn.encodings import BLOCK_FORMATS

DIVISORS = "rope_freqs.weight"
EXACT = ("norm", "router", "embed_positions")
"""Parts of canonical names whose weights stay float32."""


def export_folder(checkpoint: Checkpoint, folder: Path, encoding: WrittenEncoding | None) -> None:
    """Write a Hugging Face folder that peers load. encoding: f32, f16 or bf16; None: as the weights are, or float32."""
    _refuse_scores(checkpoint)
    if encoding not in (None, "f32", "f16", "bf16"):
        raise OctavoError(f"a Hugging Face folder holds f32, f16 or bf16 weights, not {encoding}", param="type")
    tensors = {
        name: tensor if encoding is None else encoded(tensor, encoding) for name, tensor in checkpoint.tensors.items()
    }
    tokenizer = checkpoint.tokenizer()
    save_checkpoint(folder, checkpoint.config, checkpoint.family, tensors, tokenizer, checkpoint.generation)


def export_gguf(checkpoint: Checkpoint, path: Path, encoding: WrittenEncoding) -> None:
    """Write a GGUF file. encoding: of matrices whose rows are whole blocks; norms, biases and routers stay float32.

    Raises UnsupportedError for a family, a switch or a tokenizer that GGUF files cannot express.
    """
    _refuse_scores(checkpoint)
    family, config = FAMILIES[checkpoint.family], checkpoint.config
    layout = family.gguf
    if layout is None:
        raise UnsupportedError(f"the family {family.name} has no GGUF layout here; export it with --format hf")
    own = metadata_of(config) | layout.metadata(config)
    _check(family, layout, config, own)
    metadata = {
        "general.architecture": layout.architecture,
        "general.name": checkpoint.name,
        "general.file_type": GGUF_FILE_TYPES[encoding],
        "general.quantization_version": 2,
        **{f"{layout.architecture}.{key}": value for key, value in own.items()},
        **_tokenizer_keys(checkpoint),
    }
    write_gguf(path, metadata, _tensors(checkpoint, layout, encoding))


def _refuse_scores(checkpoint: Checkpoint) -> None:
    if checkpoint.score is not None:
        raise UnsupportedError(f"{checkpoint.name} has a head for classification, which is not exported yet")


def _check(family: Family, layout: GgufLayout, config: TransformerConfig, own: dict[str, Any]) -> None:
    """Raise UnsupportedError when a reader of the file would not get the same config."""
    factors = _divisors(config)
    if factors is not None and not any(re.fullmatch(each, DIVISORS) for each in layout.harmless_tensors):
        raise UnsupportedError(f"GGUF files of {layout.architecture} have no place for these rotary frequencies")
    try:
        same = _read_back(family, layout, config, own) == _as_stored(config)
    except OctavoError:
        same = False
    if not same:
        raise UnsupportedError(
            f"a GGUF file cannot express all that this {family.name} does; export it with --format hf", param="format"
        )


def _read_back(family: Family, layout: GgufLayout, config: TransformerConfig, own: dict[str, Any]) -> TransformerConfig:
    """The config that a reader makes of the metadata."""
    names = {rule.stored.format(i=0, e=0) for rule in expand(layout.rules, config)}
    reader = ConfigReader({**own, "vocab_size": config.vocab_size}, "the GGUF file to write")
    hub = {"model_type": family.name, **layout.hub_config(reader, names.__contains__)}
    reader.finish(())
    factors = _divisors(config)
    if factors is not None:
        hub["rope_scaling"] = divided(factors)
    return family.read_config(ConfigReader(hub, "the GGUF file to write"))


def _divisors(config: TransformerConfig) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """Divisors of the frequencies that go into a tensor: those that no metadata key says."""
    rope = config.rope
    if rope is None or rope.freq_factors is None or len(set(rope.freq_factors)) == 1 or yarn_of(rope) is not None:
        return None
    return np.array(rope.freq_factors, np.float32)


def _as_stored(config: TransformerConfig) -> TransformerConfig:
    """The config with its divisors rounded as the file has them."""
    factors, rope = _divisors(config), config.rope
    if factors is None or not isinstance(rope, RopeConfig):
        return config
    return replace(config, rope=replace(rope, freq_factors=tuple(float(value) for value in factors)))


def _tokenizer_keys(checkpoint: Checkpoint) -> dict[str, Any]:
    """The keys of the file that the model came from, or of its folder's tokenizer."""
    if checkpoint.metadata is not None:
        kept = checkpoint.metadata.items()
        return {key: value for key, value in kept if key.startswith("tokenizer.") and value != []}
    from octavo.text.gguf_tokenizer import gguf_keys

    return gguf_keys(checkpoint.tokenizer(), checkpoint.config.vocab_size)


def _tensors(
    checkpoint: Checkpoint, layout: GgufLayout, encoding: WrittenEncoding
) -> Iterator[tuple[str, StoredTensor]]:
    exact = {
        rule.stored for rule in expand(layout.rules, checkpoint.config) if any(p in rule.canonical[0] for p in EXACT)
    }
    factors = _divisors(checkpoint.config)
    if factors is not None:
        yield DIVISORS, StoredTensor.from_array(factors)
    for name, make in to_stored(checkpoint.tensors, layout.rules, checkpoint.config).items():
        tensor = make()
        plain = len(tensor.shape) < 2 or name in exact or tensor.shape[-1] % BLOCK_FORMATS[encoding].weights
        yield name, encoded(tensor, "f32" if plain else encoding)
        checkpoint.release()
