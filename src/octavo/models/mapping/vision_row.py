"""`VisionRow`: a kind of vision-language folder as a row of a table, as `Family` is of language models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule
from octavo.nn.config import TransformerConfig
from octavo.nn.vision.config import ProjectorConfig


@dataclass(frozen=True)
class VisionParts:
    """What a config says: the encoder of images, the projector, and the id that stands for a position of an image."""

    image: TransformerConfig
    projector: ProjectorConfig
    image_token: int


@dataclass(frozen=True)
class VisionRow:
    """read: the whole config's reader, a reader of its text_config and how wide the language model is -> parts.

    rules: the encoder's key map. projector: canonical name of a layer -> its name in the file. harmless_keys,
    neutral_values, harmless_tensors: as of a `Family`.
    """

    name: str
    read: Callable[[ConfigReader, int], VisionParts]
    rules: Callable[[TransformerConfig], tuple[KeyRule, ...]]
    projector: Mapping[str, str]
    harmless_keys: Mapping[str, str] = field(default_factory=dict)
    neutral_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    harmless_tensors: tuple[str, ...] = ()
