"""A trained adapter as a PEFT folder: `adapter_config.json` and `adapter_model.safetensors` as PEFT 0.21 reads them.

Names and rows are those of a Hugging Face folder of the model's family, wherever the model came from.
`models/formats/peft.py` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from octavo.adapt.lora import Lora, targeted
from octavo.models.formats.peft import CONFIG_NAME, WEIGHTS_NAME, matrix_rules
from octavo.models.formats.safetensors import write_safetensors
from octavo.models.mapping.keys import KeyRule, rows_of
from octavo.models.saving import complete_folder
from octavo.models.tensors import StoredTensor
from octavo.nn.config import TransformerConfig


def save_adapter(
    folder: Path,
    parameters: Mapping[str, NDArray[np.float32]],
    lora: Lora,
    family: str,
    config: TransformerConfig,
    base: str,
) -> None:
    """Write `folder`, whole or not at all; an adapter or a model that is there is replaced.

    parameters: the trained ones of the model that `inject` adapted, by name. base: the model's name or place.
    """
    rules = targeted(family, config, lora.targets)
    tensors: dict[str, StoredTensor] = {}
    for module, rule in rules.items():
        lora_a, lora_b = _pair(rule, parameters, config)
        tensors[f"base_model.model.{module}.lora_A.weight"] = StoredTensor.from_array(lora_a)
        tensors[f"base_model.model.{module}.lora_B.weight"] = StoredTensor.from_array(lora_b)
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rank_stabilized,
        "target_modules": _targets(list(rules), list(matrix_rules(family, config))),
        "fan_in_fan_out": any(rule.layout == "transposed" for rule in rules.values()),
        "bias": "none",
        "inference_mode": True,
    }
    with complete_folder(folder) as partial:
        (partial / CONFIG_NAME).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        write_safetensors(partial / WEIGHTS_NAME, tensors)


def _pair(
    rule: KeyRule, parameters: Mapping[str, NDArray[np.float32]], config: TransformerConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A and B of a stored matrix: the rows of B in its order."""
    layers = [name.removesuffix(".weight") for name in rule.canonical]
    lora_a = parameters[f"{layers[0]}.lora_a"]  # which the others share
    parts = [parameters[f"{layer}.lora_b"] for layer in layers]
    lora_b = np.empty((sum(len(part) for part in parts), len(lora_a)), np.float32)
    for number, part in enumerate(parts):
        lora_b[rows_of(rule, number, config)] = part
    return lora_a, lora_b


def _targets(adapted: list[str], known: list[str]) -> list[str]:
    """The ends of names that mean these modules and no others; whole names where there are none."""
    ends = dict.fromkeys(name.rpartition(".")[2] for name in adapted)
    meant = {name for name in known if name.rpartition(".")[2] in ends}
    return list(ends) if meant == set(adapted) else adapted
