"""Hunyuan, the dense models: LLaMA's graph with heads of q and k normalised after they have turned.

Source: the hub's `hunyuan_v1_dense` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import BODY, INTO, MLP, PRE_NORMS, PROJECTIONS, SELF
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader))
    return with_attention(config, qkv_bias=bias, output_bias=bias, qk_norm="head", qk_norm_after_rope=True)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "attention_bias": config.attention.qkv_bias}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `hunyuan-dense` in hub spelling."""
    return gguf_decoder.decoder_config(reader, present)


NAMES = {**PROJECTIONS, "query_layernorm": "q_norm", "key_layernorm": "k_norm"}
HUNYUAN = Family(
    name="hunyuan_v1_dense",
    architecture="HunYuanDenseV1ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *layer_rules(SELF, INTO, NAMES), *MLP, *PRE_NORMS),
    gguf=GgufLayout("hunyuan-dense", gguf_hub_config, gguf_names.RULES),
    harmless_keys={
        **dict.fromkeys(("mask_init_id", "pad_id", "eod_token_id", "sep_token_id", "im_start_id", "im_end_id"), "ids"),
        **dict.fromkeys(("norm_type", "mlp_type", "use_rotary_pos_emb", "org_vocab_size"), "the only ones there are"),
    },
    neutral_values={
        **dict.fromkeys(("use_cla", "add_classification_head"), (False,)), "use_qk_norm": (True,), "num_experts": (1,),
    },
)  # fmt: skip
