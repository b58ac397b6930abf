"""ERNIE 4.5 with experts: the dense graph; experts chosen by a corrected softmax, and some that all tokens go to.

Source: the hub's `ernie4_5_moe` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import ernie4_5
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables import gguf_names
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


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `ernie4_5-moe` in hub spelling."""
    experts = gguf_decoder.expert_config(reader, "moe_num_experts")
    reader.skip("expert_shared_feed_forward_length")  # the tensors say it
    return {
        **gguf_decoder.decoder_config(reader, present, theta=5e5, experts=True),
        "moe_num_experts": experts["moe_num_experts"],
        "moe_k": experts["num_experts_per_tok"],
        "moe_intermediate_size": reader.integer("expert_feed_forward_length"),
        "moe_num_shared_experts": reader.integer("expert_shared_count", default=0, low=0),
        "moe_layer_start_index": reader.integer("leading_dense_block_count", default=0, low=0),
        "moe_layer_interval": reader.integer("interleave_moe_layer_step", default=1),
    }


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The inverse, beside what all architectures have."""
    said = write_config(config)
    return {
        "expert_feed_forward_length": said["moe_intermediate_size"],
        "expert_shared_count": said["moe_num_shared_experts"],
        "leading_dense_block_count": said["moe_layer_start_index"],
        "interleave_moe_layer_step": said["moe_layer_interval"],
    }


CORRECTION = (LAYER + "mlp.moe_statics.e_score_correction_bias", (BLOCK + "mlp.correction_bias",))
GGUF_RULES = (
    *gguf_names.PAIR_RULES,
    *(replace(rule, layout="one_row") if "exp_probs" in rule.stored else rule for rule in gguf_names.EXPERTS),
)
ERNIE4_5_MOE = Family(
    name="ernie4_5_moe",
    architecture="Ernie4_5_MoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*ernie4_5.ERNIE4_5.rules, *EXPERTS, *SHARED_EXPERTS, KeyRule(*CORRECTION, "one_row")),
    gguf=GgufLayout("ernie4_5-moe", gguf_hub_config, GGUF_RULES, metadata=gguf_metadata),
    harmless_keys={**TRAINING_OF_EXPERTS, **dict.fromkeys(("moe_capacity", "moe_use_aux_free"), "training only"),
                   "num_nextn_predict_layers": "the block that guesses a further token is left out"},
    neutral_values={"moe_norm_min": (1e-12,), "use_bias": (False,)},
    harmless_tensors=(r"model\.mtp_.*",),
)  # fmt: skip
