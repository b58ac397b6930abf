"""InternLM 2 and 2.5: LLaMA's graph with q, k and v in one matrix, by key-value head, under names of its own.

Peers run the checkpoint's code for it; here no code of a checkpoint runs. Source: arXiv 2403.17297, and the hub's
`internlm2` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("bias", default=True)
    return with_biases(read_decoder(reader, rms(reader)), qkv=bias, output=bias)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "bias": config.attention.qkv_bias}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `internlm2` in hub spelling."""
    return {**gguf_decoder.decoder_config(reader, present), "bias": present("blk.0.attn_q.bias")}


LAYER, BLOCK = "model.layers.{i}.", "blocks.{i}."
RULES = (
    KeyRule("model.tok_embeddings.weight", ("embed_tokens.weight",)),
    *linear_rules(LAYER + "attention_norm", BLOCK + "attention_norm"),
    *linear_rules(LAYER + "attention.wqkv", *QKV, layout="groups"),
    *linear_rules(LAYER + "attention.wo", BLOCK + "attention.o"),
    *linear_rules(LAYER + "ffn_norm", BLOCK + "mlp_norm"),
    *linear_rules(LAYER + "feed_forward.w1", BLOCK + "mlp.gate"),
    *linear_rules(LAYER + "feed_forward.w3", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "feed_forward.w2", BLOCK + "mlp.down"),
    *linear_rules("model.norm", "norm"),
    KeyRule("output.weight", ("lm_head.weight",)),
)

INTERNLM2 = Family(
    name="internlm2",
    architecture="InternLM2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    gguf=GgufLayout("internlm2", gguf_hub_config, gguf_names.PAIR_RULES),
    harmless_keys={"attn_implementation": "how peers run it"},
)
