"""K-EXAONE: EXAONE 4's attention under norms before each sublayer, with DeepSeek-V3's experts.

Source: the hub's `exaone_moe` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3, exaone4
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import EXPERTS, LAYER, LLAMA_RULES, SHARED_EXPERTS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = replace(exaone4.read_config(reader), placement="pre")
    return replace(config, moe=deepseek_v3.read_grouped(reader, config.num_layers, first=1))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    names = {"n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts"}
    grouped = {**deepseek_v3.write_grouped(config, **names), **deepseek_v3.write_layers(config)}
    return {**exaone4.write_config(config), **grouped}


CORRECTION = KeyRule(LAYER + "mlp.e_score_correction_bias", ("blocks.{i}.mlp.correction_bias",))
EXAONE_MOE = Family(
    name="exaone_moe",
    architecture="ExaoneMoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*LLAMA_RULES, *EXPERTS, *SHARED_EXPERTS, CORRECTION),
    harmless_keys={**TRAINING_OF_EXPERTS, "num_nextn_predict_layers": "the block that guesses is left out"},
    neutral_values={"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",)},
    harmless_tensors=(r"mtp\..*",),
)
