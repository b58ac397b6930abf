"""LLaMA 1, 2 and 3.x, and what shares their graph: SmolLM2, TinyLlama, OpenLLaMA, CodeLLaMA, SOLAR.

RMSNorm before each sublayer, rotary positions, grouped-query attention, gated SiLU MLP; `attention_bias` puts a bias on
all four projections. GGUF files store the rows of q and k in pair order.
Source: Touvron et al. 2023 (arXiv 2302.13971, 2307.09288), Llama 3 (arXiv 2407.21783).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES, OLD_BUFFERS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    bias = reader.flag("attention_bias", default=False)
    config = read_decoder(reader, rms(reader))
    return with_biases(config, qkv=bias, output=bias, mlp=reader.flag("mlp_bias", default=False))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    biases = {"attention_bias": config.attention.qkv_bias, "mlp_bias": config.mlp.bias}
    return {**write_decoder(config), **biases}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `llama` in hub spelling."""
    biases = {"attention_bias": present("blk.0.attn_q.bias"), "mlp_bias": present("blk.0.ffn_gate.bias")}
    return {**gguf_decoder.decoder_config(reader, present), **biases}


LLAMA = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("llama", gguf_hub_config, gguf_names.PAIR_RULES, harmless_tensors=(r"rope_freqs\.weight",)),
    harmless_keys={"is_llama_config": "says what model_type says"},
    neutral_values={"rope_interleaved": (False,)},
    harmless_tensors=OLD_BUFFERS,
)
IQUESTCODER = replace(
    LLAMA,
    name="iquestcoder",
    gguf=None,
    neutral_values={**LLAMA.neutral_values, "clip_qkv": (), "use_sliding_window": (False,)},
)
"""IQuest-Coder, which is a LLaMA by another name."""
