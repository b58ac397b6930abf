"""Phi-3 and Phi-4: LLaMA's graph with q, k, v fused in one matrix and gate, up in another; early ones with a window.

Those of 128 k tokens have longrope: other frequencies for sequences past 4 k than for shorter ones.
Source: arXiv 2404.14219, 2412.08905, and the hub's `phi3` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, window_size, with_windows, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import BODY, FUSED_MLP, LAYER, PRE_NORMS
from octavo.nn.config import TransformerConfig

ORIGINAL = "original_max_position_embeddings"
"""Peers read it beside the rotary part, not in it."""


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader))
    reader.integer(ORIGINAL, default=1)  # for longrope alone
    return with_windows(config, (True,) * config.num_layers, reader.optional_integer("sliding_window", None))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    rope = config.rope
    original = {} if rope is None or rope.original_length is None else {ORIGINAL: rope.original_length}
    return {**write_decoder(config), "sliding_window": window_size(config), **original}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling."""
    window = reader.integer("attention.sliding_window", default=0, low=0)
    return {**gguf_decoder.decoder_config(reader, present), "sliding_window": window or None}


QKV = linear_rules(LAYER + "self_attn.qkv_proj", *gguf_names.QKV)
OUTPUT = linear_rules(LAYER + "self_attn.o_proj", "blocks.{i}.attention.o")
GGUF_RULES = (*gguf_names.BODY, *gguf_names.FUSED_ATTENTION, *gguf_names.FUSED_MLP, *gguf_names.PRE_NORMS)
PHI3 = Family(
    name="phi3",
    architecture="Phi3ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *QKV, *OUTPUT, *FUSED_MLP, *PRE_NORMS),
    gguf=GgufLayout("phi3", gguf_hub_config, GGUF_RULES),
    harmless_keys=dict.fromkeys(("embd_pdrop", "resid_pdrop"), "dropout acts in training only"),
    neutral_values={
        **dict.fromkeys(("attention_bias", "mlp_bias", "lm_head_bias"), (False,)),
        **dict.fromkeys(("full_attn_mod", "interpolate_factor"), (1,)),
    },
)
