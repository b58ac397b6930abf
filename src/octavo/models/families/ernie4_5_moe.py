"""ERNIE 4.5 with experts: the dense graph; experts chosen by a corrected softmax, and some that all tokens go to.

Source: the hub's `ernie4_5_moe` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import ernie4_5
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import BLOCK, EXPERTS, LAYER, SHARED_EXPERTS
from octavo.nn.config import MoeConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = ernie4_5.read_config(reader)
    count, size = reader.integer("moe_num_experts"), reader.integer("moe_intermediate_size")
    start, every = reader.integer("moe_layer_start_index", default=1, low=0), reader.integer("moe_layer_interval")
    last = reader.integer("moe_layer_end_index", default=-1, low=-1)
    end = config.num_layers - 1 if last == -1 else last
    layers = tuple(start <= at <= end and (at + 1) % every == 0 for at in range(config.num_layers))
    chosen, shared = reader.integer("moe_k", high=count), size * reader.integer("moe_num_shared_experts", low=0)
    moe = MoeConfig(count, chosen, size, True, shared or None, layers, shared_gate=False, correction=True)
    return replace(config, moe=moe)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    moe = config.moe
    assert moe is not None, "it has experts"
    at = [layer for layer, has in enumerate(moe.layers) if has]
    return {
        **ernie4_5.write_config(config),
        "moe_num_experts": moe.num_experts,
        "moe_k": moe.experts_per_token,
        "moe_intermediate_size": moe.intermediate_size,
        "moe_num_shared_experts": (moe.shared_size or 0) // moe.intermediate_size,
        "moe_layer_start_index": at[0],
        "moe_layer_end_index": at[-1],
        "moe_layer_interval": at[1] - at[0] if len(at) > 1 else 1,
    }


CORRECTION = (LAYER + "mlp.moe_statics.e_score_correction_bias", (BLOCK + "mlp.correction_bias",))
ERNIE4_5_MOE = Family(
    name="ernie4_5_moe",
    architecture="Ernie4_5_MoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*ernie4_5.ERNIE4_5.rules, *EXPERTS, *SHARED_EXPERTS, KeyRule(*CORRECTION, "one_row")),
    harmless_keys={**TRAINING_OF_EXPERTS, **dict.fromkeys(("moe_capacity", "moe_use_aux_free"), "training only"),
                   "num_nextn_predict_layers": "the block that guesses a further token is left out"},
    neutral_values={"moe_norm_min": (1e-12,), "use_bias": (False,)},
    harmless_tensors=(r"model\.mtp_.*",),
)  # fmt: skip
