"""A PEFT folder: a low-rank adapter (Hu et al. 2021, arXiv 2106.09685) of a model's matrices, under canonical names.

Unusual: names and rows go through the key rules of the model's family, so that an adapter that was trained on a Hugging
Face folder fits the same model from a GGUF file, and matrices that lie there in one (q, k and v) are cut.
Source: `adapter_config.json` and `adapter_model.safetensors` as PEFT 0.21 writes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, ModelNotFoundError, UnknownNameError, UnsupportedError, nearest
from octavo.models.families import FAMILIES
from octavo.models.formats.folder import read_json, refuse_pickle
from octavo.models.formats.mapped import TensorEntry
from octavo.models.formats.safetensors import read_safetensors
from octavo.models.formats.tables.adapter_fields import HARMLESS, NEUTRAL, NOTHING, READ
from octavo.models.mapping.keys import KeyRule, expand, rows_of
from octavo.nn.config import TransformerConfig
from octavo.nn.shapes import parameter_shapes

if TYPE_CHECKING:
    from octavo.models.checkpoint import Checkpoint

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
ADAPTED = re.compile(r"blocks\.\d+\.(attention\.[qkvo]|mlp\.(gate|up|down))\.weight")
"""The matrices that may be adapted."""
LAYOUTS = ("plain", "transposed", "pairs", "groups")
TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to a matrix is up @ down. down: (rank, in), up: (out, rank), float32; the scale is in `up`."""

    down: NDArray[np.float32]
    up: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Adapter:
    """name: for people and requests. factors: canonical name of a matrix -> what is added to it."""

    name: str
    factors: Mapping[str, LowRank]


def read_adapter(name: str, folder: Path, checkpoint: Checkpoint) -> Adapter:
    """The adapter in a folder, for this model.

    Raises ModelNotFoundError, FormatError (damaged, other shapes, pickle), UnknownNameError (a field, or a matrix that
    the model lacks), UnsupportedError (known, but not done here).
    """
    source = folder / CONFIG_NAME
    if not source.is_file():
        raise ModelNotFoundError(f"{folder} has no {CONFIG_NAME}; give a folder that PEFT's save_pretrained wrote")
    if checkpoint.config.attention.latent is not None:
        raise UnsupportedError(f"{checkpoint.name} has latent attention, to which adapters are not added here")
    raw = read_json(source)
    _check_fields(raw, str(source))
    if not (folder / WEIGHTS_NAME).is_file():
        refuse_pickle(folder)
        raise ModelNotFoundError(f"{folder} has no {WEIGHTS_NAME}; fetch the adapter again")
    pairs = _pairs(read_safetensors(folder / WEIGHTS_NAME), str(folder / WEIGHTS_NAME))
    factors: dict[str, LowRank] = {}
    rules = matrix_rules(checkpoint.family, checkpoint.config)
    for module, (down, up) in pairs.items():
        rule = _rule_of(module, rules, checkpoint, str(folder))
        rank = down.shape[0]
        scale = raw["lora_alpha"] / (math.sqrt(rank) if raw.get("use_rslora") else rank)
        factors |= _cut(rule, down, up * np.float32(scale), checkpoint, f"{folder}: {module}")
    return Adapter(name, factors)


def _check_fields(raw: Mapping[str, Any], source: str) -> None:
    for key, value in raw.items():
        if key in NEUTRAL and value not in NEUTRAL[key]:
            raise UnsupportedError(
                f"{source} has {key} {value!r}, which is not supported; train the adapter without it, or merge it "
                "into its model with PEFT's merge_and_unload",
                param=key,
            )
        if key not in NEUTRAL and key not in HARMLESS and key not in READ and value not in NOTHING:
            hint = nearest(key, [*NEUTRAL, *HARMLESS, *READ])
            raise UnknownNameError(f"{source} has the field {key!r}, which is not known here{hint}", param=key)
    for key in ("r", "lora_alpha"):
        if type(raw.get(key)) not in (int, float) or not 0 < raw[key] < 1e6:
            raise FormatError(f"{source} has {key} {raw.get(key)!r}; it must be a number above 0", param=key)
    if raw.get("peft_type") is None:
        raise FormatError(f"{source} lacks peft_type; it is no adapter's config", param="peft_type")


def _pairs(
    entries: Mapping[str, TensorEntry], source: str
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Module -> its two matrices."""
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, entry in entries.items():
        match = TENSOR.fullmatch(name)
        if match is None:
            raise UnsupportedError(f"{source} has the tensor {name!r}; only low-rank pairs of matrices are read here")
        if len(entry.shape) != 2:
            raise FormatError(f"{source}: {name!r} has shape {list(entry.shape)}; a matrix is expected")
        found.setdefault(match[1], {})[match[2]] = entry.read().dequantize()
    for module, parts in found.items():
        if len(parts) != 2 or parts["A"].shape[0] != parts["B"].shape[1]:
            raise FormatError(f"{source}: the two matrices of {module!r} do not fit each other; fetch it again")
    return {module: (parts["A"], parts["B"]) for module, parts in found.items()}


def matrix_rules(family: str, config: TransformerConfig) -> dict[str, KeyRule]:
    """The rules of the family's tensors, by the name of the module that holds each matrix."""
    rules: dict[str, KeyRule] = {}
    for rule in expand(FAMILIES[family].rules, config):
        rules.setdefault(rule.stored.removesuffix(".weight"), rule)
    return rules


def may_adapt(rule: KeyRule) -> bool:
    """Whether it is of attention's projections or of a plain MLP's matrices, which may be adapted."""
    return rule.layout in LAYOUTS and all(map(ADAPTED.fullmatch, rule.canonical))


def _rule_of(module: str, rules: Mapping[str, KeyRule], checkpoint: Checkpoint, source: str) -> KeyRule:
    rule = rules.get(module) or rules.get(FAMILIES[checkpoint.family].prefix + module)
    if rule is None:
        raise UnknownNameError(
            f"{source} adapts {module!r}, which {checkpoint.name} does not have{nearest(module, rules)}"
        )
    if not may_adapt(rule):
        raise UnsupportedError(
            f"{source} adapts {module!r}; only attention's projections and a plain MLP's matrices may be adapted here"
        )
    return rule


def _cut(
    rule: KeyRule, down: NDArray[np.float32], up: NDArray[np.float32], checkpoint: Checkpoint, source: str
) -> dict[str, LowRank]:
    """The pair of a stored matrix for each canonical matrix that lies in it."""
    shapes = [parameter_shapes(checkpoint.config)[name] for name in rule.canonical]
    shape = (sum(rows for rows, _ in shapes), shapes[0][1])
    if (up.shape[0], down.shape[1]) != shape:
        raise FormatError(
            f"{source} is for a matrix of {[up.shape[0], down.shape[1]]}, but the model's is {list(shape)}"
        )
    down = np.ascontiguousarray(down)
    return {
        name: LowRank(down, np.ascontiguousarray(up[rows_of(rule, number, checkpoint.config)]))
        for number, name in enumerate(rule.canonical)
    }
