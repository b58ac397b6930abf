"""DeepSeek-V2, its Lite and Coder models: V3's latent attention; experts scored by a softmax, in groups by their best.

Source: arXiv 2405.04434, and the hub's `deepseek_v2` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables.hub_names import OLD_BUFFERS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = deepseek_v3.read_latent(reader)
    methods = {"greedy": False, "group_limited_greedy": True}
    by_group = reader.choice("topk_method", table=methods, default="greedy")
    moe = deepseek_v3.read_grouped(reader, config.num_layers, scoring="softmax", group_top=1, normalise=False)
    return replace(config, moe=moe if by_group else replace(moe, groups=1, groups_kept=1))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    by_group = config.moe is not None and config.moe.groups > 1
    return {**deepseek_v3.write_config(config), "topk_method": "group_limited_greedy" if by_group else "greedy"}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling; groups of experts are there to be chosen by."""
    config = deepseek_v3.gguf_hub_config(reader, present, scoring="softmax")
    return {**config, "topk_method": "greedy" if config["n_group"] == 1 else "group_limited_greedy"}


DEEPSEEK_V2 = Family(
    name="deepseek_v2",
    architecture="DeepseekV2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=deepseek_v3.RULES,
    gguf=GgufLayout(
        "deepseek2",
        gguf_hub_config,
        deepseek_v3.GGUF_RULES,
        metadata=deepseek_v3.gguf_metadata,
    ),
    harmless_keys=deepseek_v3.HARMLESS,
    harmless_tensors=OLD_BUFFERS,
    neutral_values={
        "norm_topk_prob": (False,), "scoring_func": ("softmax",), "moe_layer_freq": (1,), "mlp_bias": (False,),
    },
)  # fmt: skip
