"""`open_vision`: a folder of a vision-language model, split into the three models that it holds; no weights are read.

Unusual: the language model becomes an ordinary `Checkpoint` of its own family, so that whatever runs that family runs
it; the encoder of images is another, whose config sees patches.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import FormatError, UnknownNameError, nearest
from octavo.models.checkpoint import Checkpoint, GenerationDefaults, files_of, open_text
from octavo.models.families.vision.blip2 import BLIP2
from octavo.models.families.vision.idefics3 import IDEFICS3, SMOLVLM
from octavo.models.families.vision.llava import LLAVA
from octavo.models.families.vision.minigpt_v2 import MINIGPT_V2
from octavo.models.formats.folder import read_folder, read_json
from octavo.models.formats.mapped import TensorEntry
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import to_canonical
from octavo.models.mapping.tables.config_keys import HARMLESS, NEUTRAL
from octavo.models.mapping.vision_row import VisionParts, VisionRow
from octavo.models.tensors import StoredTensor
from octavo.nn.vision.config import ProjectorConfig

ROWS = {row.name: row for row in (BLIP2, LLAVA, MINIGPT_V2, IDEFICS3, SMOLVLM)}


@dataclass(frozen=True)
class VisionCheckpoint:
    """image, text: as of one model each. projector: its tensors by canonical name.

    image_token: the id that stands in a text for each position of an image.
    """

    image: Checkpoint
    projector: Mapping[str, StoredTensor]
    projector_config: ProjectorConfig
    text: Checkpoint
    image_token: int


def open_vision(folder: Path, *, ignore_keys: Collection[str] = ()) -> VisionCheckpoint:
    """Open a Hugging Face folder of a vision-language model; check all that its headers say.

    Raises as `open_checkpoint` does; UnknownNameError for a model_type that is none of the rows.
    """
    source = folder / "config.json"
    raw = read_json(source)
    row = _row(raw.get("model_type"), source)
    words, rest = open_text(folder, raw, read_folder(folder), ignore_keys)
    reader = ConfigReader(raw, str(source), ignore=ignore_keys)
    reader.neutral({**NEUTRAL, **row.neutral_values})
    parts = row.read(reader, words.config.hidden_size)
    reader.finish({**HARMLESS, **row.harmless_keys, "text_config": "read as a model of its own"})
    if parts.image_token >= words.config.vocab_size:
        raise FormatError(f"{source} has the image token {parts.image_token}, which is past its vocabulary")
    # older files have one more level
    others = {name.replace("vision_tower.vision_model.", "vision_tower."): entry for name, entry in rest.items()}
    image, projector = _image(folder, raw, row, parts, others)
    return VisionCheckpoint(image, projector, parts.projector, words, parts.image_token)


def _row(model_type: object, source: Path) -> VisionRow:
    if isinstance(model_type, str) and model_type in ROWS:
        return ROWS[model_type]
    raise UnknownNameError(
        f"{source} has the model_type {model_type!r}, which is no model that sees (known are {', '.join(ROWS)})"
        f"{nearest(str(model_type), ROWS)}",
        param="model_type",
    )


def _image(
    folder: Path, raw: Mapping[str, Any], row: VisionRow, parts: VisionParts, entries: Mapping[str, TensorEntry]
) -> tuple[Checkpoint, dict[str, StoredTensor]]:
    wanted = parts.projector.shapes()
    projector: dict[str, StoredTensor] = {}
    for name, shape in wanted.items():
        layer, leaf = name.split(".")
        stored = f"{row.projector[layer]}.{leaf}"
        if stored not in entries or entries[stored].shape != shape:
            raise FormatError(f"{folder} lacks the tensor {stored!r} of shape {list(shape)}; fetch it again")
        projector[name] = entries[stored].read()
    names = tuple(re.escape(layer) + r"\..*" for layer in row.projector.values())
    harmless = (*row.harmless_tensors, *names)
    tensors = to_canonical(entries, row.rules(parts.image), parts.image, harmless=harmless, source=str(folder))
    image = Checkpoint(
        folder, folder.name, row.name, parts.image, raw, tensors, GenerationDefaults(), None, files_of(entries)
    )
    return image, projector
