"""StarCoder and SantaCoder: GPT-2's graph with one key-value head for all queries, and plain (out, in) matrices.

Source: Li et al. 2023 (arXiv 2305.06161), and the hub's `gpt_bigcode` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families import gpt2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = gpt2.read_config(reader, activation="gelu_pytorch_tanh")
    return with_attention(config, num_kv_heads=1) if reader.flag("multi_query", default=True) else config


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**gpt2.write_config(config), "multi_query": config.attention.num_kv_heads == 1}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `starcoder` in hub spelling."""
    return {**gpt2.gguf_hub_config(reader, present, kv_heads=1), "multi_query": True}


ATTENTION = "transformer.h.{i}.attn.c_attn"
RULES = (
    *(replace(rule, layout="plain") for rule in gpt2.RULES if "c_attn" not in rule.stored),
    *(replace(rule, when=lambda config: config.attention.num_kv_heads == 1) for rule in linear_rules(ATTENTION, *QKV)),
    *(
        replace(rule, when=lambda config: config.attention.num_kv_heads != 1)
        for rule in linear_rules(ATTENTION, *QKV, layout="groups")
    ),
)

GPT_BIGCODE = Family(
    name="gpt_bigcode",
    architecture="GPTBigCodeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    gguf=GgufLayout("starcoder", gguf_hub_config, gpt2.GGUF_RULES),
    harmless_keys={
        **gpt2.HARMLESS,
        "num_key_value_heads": "multi_query says it",
        **dict.fromkeys(("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"), "how peers round"),
        **dict.fromkeys(("inference_runner", "max_batch_size", "max_sequence_length", "pad_key_length",
                         "pre_allocate_kv_cache", "validate_runner_input"), "how peers run it"),
    },
    neutral_values={"scale_attn_weights": (True,)},
    harmless_tensors=(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",),
)  # fmt: skip
