"""EXAONE 3 and 3.5: LLaMA's graph under names of its own.

Source: arXiv 2408.03541, 2412.04862, and the hub's `exaone` config.
"""

from __future__ import annotations

from octavo.models.families import llama
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import layer_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.nn.config import TransformerConfig

SPELLINGS = {
    "num_layers": "num_hidden_layers",
    "layer_norm_epsilon": "rms_norm_eps",
    "activation_function": "hidden_act",
}


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    for own, usual in SPELLINGS.items():
        if own in reader.raw:
            reader.raw.setdefault(usual, reader.raw.pop(own))
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader), rope=RopeSpelling(theta=5e5))
    return with_biases(config, qkv=bias, output=bias, mlp=reader.flag("mlp_bias", default=False))


LAYER, BLOCK = "transformer.h.{i}.", "blocks.{i}."
ATTENTION = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "o"}
EXAONE = Family(
    name="exaone",
    architecture="ExaoneForCausalLM",
    read_config=read_config,
    write_config=llama.write_config,
    rules=(
        *layer_rules("", "", {"transformer.wte": "embed_tokens", "transformer.ln_f": "norm", "lm_head": "lm_head"}),
        *layer_rules(LAYER + "attn.attention.", BLOCK + "attention.", ATTENTION),
        *layer_rules(LAYER + "mlp.", BLOCK + "mlp.", {"c_fc_0": "gate", "c_fc_1": "up", "c_proj": "down"}),
        *layer_rules(LAYER, BLOCK, {"ln_1": "attention_norm", "ln_2": "mlp_norm"}),
    ),
    prefix="transformer.",
    gguf=GgufLayout("exaone", llama.gguf_hub_config, gguf_names.RULES, harmless_tensors=(r"rope_freqs\.weight",)),
    harmless_keys={"embed_dropout": "dropout acts in training only"},
)
