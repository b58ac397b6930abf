"""Mistral 7B and its descendants: LLaMA's graph, but for a sliding window over the attended positions.

A window smaller than the context is refused: every position attends to all before it here. Files from v0.2 on have
none, and one that is as large as the context changes nothing. GGUF files carry the architecture `llama`.
Source: Jiang et al. 2023 (arXiv 2310.06825).
"""

from __future__ import annotations

from typing import Any

from octavo.errors import UnsupportedError
from octavo.models.families import llama
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import HARMLESS_KEYS, NEUTRAL_VALUES, Family
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = llama.read_config(reader)
    window = reader.integer("sliding_window", default=config.context_length)
    if window < config.context_length:
        raise UnsupportedError(
            f"{reader.source} has sliding_window {window} below its context of {config.context_length}, which is not "
            "supported; --ignore-config-key sliding_window attends to all positions",
            param="sliding_window",
        )
    return config


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**llama.write_config(config), "sliding_window": None}


MISTRAL = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=llama.LLAMA_RULES,
    prefix="model.",
    harmless_keys=HARMLESS_KEYS,
    neutral_values=NEUTRAL_VALUES,
    harmless_tensors=llama.LLAMA.harmless_tensors,
)
