"""Mixtral: Mistral's graph with experts for its MLP, two of eight for each token.

Hub files have the experts' matrices one by one, as w1 (gate), w3 (up) and w2 (down).
Source: Jiang et al. 2024 (arXiv 2401.04088).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, read_experts, rms, window_size, with_windows, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import expert_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.config_keys import TRAINING_OF_EXPERTS
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, LAYER, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader), rope=RopeSpelling(theta=1e6))
    experts = read_experts(reader, config.num_layers, size_key="intermediate_size", normalise=True)
    config = with_windows(config, (True,) * config.num_layers, reader.optional_integer("sliding_window", None))
    return replace(config, moe=experts)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.moe is not None, "a Mixtral has experts"
    return {
        **write_decoder(config),
        "sliding_window": window_size(config),
        "num_local_experts": config.moe.num_experts,
        "num_experts_per_tok": config.moe.experts_per_token,
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `llama`, with experts, in hub spelling."""
    experts = gguf_decoder.expert_config(reader, "num_local_experts")
    return {**gguf_decoder.decoder_config(reader, present, theta=1e6, experts=True), **experts}


GATED = {"w1": "gate", "w3": "up", "w2": "down"}
MIXTRAL = Family(
    name="mixtral",
    architecture="MixtralForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY,
        *ATTENTION,
        *expert_rules(LAYER + "block_sparse_moe.", GATED),
        *PRE_NORMS,
    ),
    gguf=GgufLayout(
        "llama",
        gguf_hub_config,
        (*gguf_names.PAIR_RULES, *gguf_names.EXPERTS),
        when=lambda own: bool(own("expert_count")),
    ),
    harmless_keys=TRAINING_OF_EXPERTS,
)
