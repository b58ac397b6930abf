"""Youtu-LLM: DeepSeek-V3's latent attention with a plain MLP in every block.

Source: the hub's `youtu` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import deepseek_v3
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.tables.hub_names import BODY, MLP, PRE_NORMS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = deepseek_v3.read_latent(reader)
    return replace(config, tie_embeddings=reader.flag("tie_word_embeddings", default=True))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return deepseek_v3.write_latent(config)


YOUTU = Family(
    name="youtu",
    architecture="YoutuForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *deepseek_v3.LATENT, *MLP, *PRE_NORMS),
    harmless_keys={"embedding_initializer_range": "training only"},
    neutral_values={"rope_interleave": (True,), "mlp_bias": (False,)},
)
