"""`Family`: a model family as a row of a table: config in, `TransformerConfig` and key map out.

The rows are in `families/`, one file each; nothing else in Octavo knows a family's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule
from octavo.nn.config import TransformerConfig


@dataclass(frozen=True)
class GgufLayout:
    """How the family lies in a GGUF file.

    hub_config: the metadata's own keys, and whether a tensor is there -> a config in hub spelling. rules: its key map.
    metadata: the inverse, of the keys that not all architectures have. when: which files of the architecture are this
    family's, by its own keys, where it has several; else all that are no other's.
    """

    architecture: str
    hub_config: Callable[[ConfigReader, Callable[[str], bool]], dict[str, Any]]
    rules: tuple[KeyRule, ...]
    harmless_tensors: tuple[str, ...] = ()
    metadata: Callable[[TransformerConfig], dict[str, Any]] = lambda config: {}
    when: Callable[[Callable[[str], Any]], bool] | None = None


@dataclass(frozen=True)
class Family:
    """name: the `model_type`. architecture: the class that peers load it with.

    prefix: what hub names of the body begin with, left out in some files. harmless_keys (key -> reason) and
    neutral_values (key -> values): beside those of every family. harmless_tensors: patterns of tensors that files hold
    and the model does not need. constants: files' tensors of one number that is always the same, and the number.
    """

    name: str
    architecture: str
    read_config: Callable[[ConfigReader], TransformerConfig]
    write_config: Callable[[TransformerConfig], dict[str, Any]]
    rules: tuple[KeyRule, ...]
    prefix: str = "model."
    gguf: GgufLayout | None = None
    harmless_keys: Mapping[str, str] = field(default_factory=dict)
    neutral_values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    harmless_tensors: tuple[str, ...] = ()
    constants: Mapping[str, float] = field(default_factory=dict)

    def constants_of(self, config: TransformerConfig) -> dict[str, float]:
        """`constants` of every block."""
        blocks = range(config.num_layers)
        return {name.format(i=block): value for name, value in self.constants.items() for block in blocks}
