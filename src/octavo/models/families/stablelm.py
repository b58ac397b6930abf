"""StableLM: LLaMA's graph with LayerNorms and a part of each head turning; the smaller of the second generation have
biases on q, k and v, and some compute attention and MLP side by side.

Source: Bellagente et al. 2024 (arXiv 2402.17834), and the hub's `stablelm` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm = NormConfig("layer", reader.number("layer_norm_eps", "norm_eps", default=1e-5))
    config = read_decoder(reader, norm, rope=RopeSpelling(partial=0.25))
    config = with_biases(config, qkv=reader.flag("use_qkv_bias", default=False), output=False)
    parallel = reader.flag("use_parallel_residual", default=False)
    return replace(config, placement="parallel" if parallel else "pre")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    parallel, bias = config.placement == "parallel", config.attention.qkv_bias
    whole = {"partial_rotary_factor": 1.0}
    return {**whole, **write_decoder(config), "use_qkv_bias": bias, "use_parallel_residual": parallel}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `stablelm` in hub spelling."""
    return {
        **gguf_decoder.decoder_config(reader, present),
        "use_qkv_bias": present("blk.0.attn_q.bias"),
        "use_parallel_residual": reader.flag("use_parallel_residual", default=False),
    }


STABLELM = Family(
    name="stablelm",
    architecture="StableLmForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("stablelm", gguf_hub_config, gguf_names.RULES),
    harmless_keys={"hidden_dropout": "dropout acts in training only", "rope_pct": "partial_rotary_factor says it"},
    neutral_values={"qk_layernorm": (False,)},
)
