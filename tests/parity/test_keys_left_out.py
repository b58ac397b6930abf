"""A config that leaves a key out means what the peer's class takes for it, or is refused: never something else."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from octavo.errors import OctavoError
from octavo.models.checkpoint import read_config
from octavo.models.families import FAMILIES
from octavo.nn.config import TransformerConfig

HERE = Path(__file__).parent
DECODERS = runpy.run_path(str(HERE / "tiny.py"))["VARIANTS"]
ENCODERS = runpy.run_path(str(HERE / "tiny_encoders.py"))["VARIANTS"]
BY_TYPE = {variant.model_type: variant.config for variant in (*DECODERS.values(), *ENCODERS.values())}
NAMES = ("model_type", "architectures", "id2label", "label2id")
EXCEPTIONS = {
    ("dbrx", "rope_parameters"),  # published files have the base in attn_config, which the peer leaves unread
    ("hyperclovax", "attention_multiplier"),  # the same number, said or not
}


def said(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return found


def ours(raw: dict[str, Any]) -> TransformerConfig | None:
    try:
        return read_config(FAMILIES[raw["model_type"]], raw, "a test")
    except OctavoError:
        return None


@pytest.mark.parametrize("model_type", BY_TYPE)
def test_a_key_left_out_is_the_peers_default_or_refused(model_type: str) -> None:
    kind = CONFIG_MAPPING[model_type]
    whole = said(kind(**BY_TYPE[model_type]))
    assert ours(whole) is not None
    wrong = {}
    for key in set(whole) - set(NAMES):
        raw = {name: value for name, value in whole.items() if name != key}
        found = ours(raw)
        if found is None or (model_type, key) in EXCEPTIONS:
            continue
        try:
            filled = said(kind.from_dict(raw))
        except Exception:  # the peer refuses it, in whatever way
            continue
        latent = key == "num_key_value_heads" and found.attention.latent is not None  # which has no such heads
        if not latent and found != ours(filled):
            wrong[key] = filled.get(key)
    assert wrong == {}, "what the peer takes for them"
