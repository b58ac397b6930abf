"""Fields of `adapter_config.json`, as PEFT 0.21 writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

READ = ("r", "lora_alpha", "use_rslora", "rank_pattern", "target_modules")
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", None),
    "use_dora": (False, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": (None, []),
}
"""Fields that are accepted with these values only."""
NOTHING: tuple[Any, ...] = (None, False, {}, [])
"""Values of a field that is not known here which switch nothing on: each version of PEFT writes some more."""
HARMLESS = {
    **dict.fromkeys(("lora_dropout", "inference_mode", "megatron_config", "megatron_core"), "training only"),
    **dict.fromkeys(("base_model_name_or_path", "revision", "auto_mapping", "peft_version"), "where it comes from"),
    **dict.fromkeys(("exclude_modules", "layers_to_transform", "layers_pattern"), "the tensors' names say it"),
    "fan_in_fan_out": "of the model's matrices; the adapter's lie one way",
    "qalora_group_size": "of a method that is off",
}
