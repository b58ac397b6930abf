"""Baichuan 7B: LLaMA's graph with q, k and v in one matrix.

Its larger sibling has ALiBi and says no max_position_embeddings; Baichuan 2, which says z_loss_weight, normalises the
rows of its head. Both are refused. Source: arXiv 2309.10305, and the hub's `baichuan` config.
"""

from __future__ import annotations

from octavo.models.families.llama import write_config
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.models.mapping.tables.hub_names import BODY, INTO, MLP, OLD_BUFFERS, PRE_NORMS, SELF
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    return read_decoder(reader, rms(reader))


BAICHUAN = Family(
    name="baichuan",
    architecture="BaichuanForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*BODY, *linear_rules(SELF + "W_pack", *QKV), *linear_rules(SELF + "o_proj", INTO + "o"), *MLP, *PRE_NORMS),
    gguf=GgufLayout("baichuan", gguf_decoder.decoder_config, gguf_names.PAIR_RULES),
    harmless_keys={"model_max_length": "for tokenizers"},
    neutral_values={"z_loss_weight": (), "attention_bias": (False,), "mlp_bias": (False,)},
    harmless_tensors=OLD_BUFFERS,
)
