"""nanochat: norms without weights everywhere, on the embeddings and on heads that have turned, too; a squared ReLU.

Its features turn the other way round than other families', which is their usual way with a head's halves exchanged.
Source: the hub's `nanochat` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_attention, with_biases, write_decoder
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.tables.hub_names import BLOCK, BODY, INTO, LAYER, PROJECTIONS, SELF
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    norm = NormConfig("rms_bare", reader.number("rms_norm_eps"))
    config = with_biases(read_decoder(reader, norm, gated=False, activation="relu2"), qkv=bias, output=bias)
    config = with_attention(config, qk_norm="turned", qk_norm_after_rope=True)
    return replace(config, embedding_norm=True, logit_softcap=reader.optional_number("final_logit_softcapping", 15.0))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    bias, cap = config.attention.qkv_bias, config.logit_softcap
    return {**write_decoder(config), "attention_bias": bias, "final_logit_softcapping": cap}


def exchanged(config: TransformerConfig, heads: int) -> NDArray[np.intp]:
    """Which row of the file is row r of q or k: of the other half of its head."""
    rows = np.arange(heads * config.attention.head_dim).reshape(heads, 2, -1)
    return rows[:, ::-1].reshape(-1)


def _queries(config: TransformerConfig) -> NDArray[np.intp]:
    return exchanged(config, config.attention.num_heads)


def _keys(config: TransformerConfig) -> NDArray[np.intp]:
    return exchanged(config, config.attention.num_kv_heads)


NANOCHAT = Family(
    name="nanochat",
    architecture="NanoChatForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY,
        *(KeyRule(f"{SELF}q_proj.{leaf}", (f"{INTO}q.{leaf}",), _queries) for leaf in ("weight", "bias")),
        *(KeyRule(f"{SELF}k_proj.{leaf}", (f"{INTO}k.{leaf}",), _keys) for leaf in ("weight", "bias")),
        *layer_rules(SELF, INTO, {name: PROJECTIONS[name] for name in ("v_proj", "o_proj")}),
        *layer_rules(LAYER + "mlp.", BLOCK + "mlp.", {"fc1": "up", "fc2": "down"}),
    ),
)
