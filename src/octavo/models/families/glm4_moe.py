"""GLM-4.5 and 4.6: LLaMA's graph with biases on q, k and v, half of each head turning, and DeepSeek-V3's experts.

Source: arXiv 2508.06471, and the hub's `glm4_moe` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.families.deepseek_v3 import HARMLESS, read_grouped, write_grouped
from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, with_attention, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import CORRECTION, EXPERTS, LLAMA_RULES, SHARED_EXPERTS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader), rope=RopeSpelling(partial=0.5))
    norm = "head" if reader.flag("use_qk_norm", default=False) else None
    config = with_attention(config, qkv_bias=reader.flag("attention_bias", default=False), qk_norm=norm)
    return replace(config, moe=read_grouped(reader, config.num_layers))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    bias, norm = config.attention.qkv_bias, config.attention.qk_norm is not None
    written = {"partial_rotary_factor": 1.0, **write_decoder(config)}
    return {**written, **write_grouped(config), "attention_bias": bias, "use_qk_norm": norm}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling; its blocks count those that guess further tokens, too."""
    config = gguf_decoder.decoder_config(reader, present, experts=True)
    further = reader.integer("nextn_predict_layers", default=0, low=0)
    return {
        **config,
        **gguf_decoder.grouped_config(reader),
        "num_hidden_layers": config["num_hidden_layers"] - further,
        "num_nextn_predict_layers": further,
        "attention_bias": present("blk.0.attn_q.bias"),
        "use_qk_norm": present("blk.0.attn_q_norm.weight"),
    }


GGUF_RULES = (
    *gguf_names.LATE_RULES,
    *gguf_names.EXPERTS,
)
GLM4_MOE = Family(
    name="glm4_moe",
    architecture="Glm4MoeForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(*LLAMA_RULES, *EXPERTS, *SHARED_EXPERTS, *CORRECTION),
    gguf=GgufLayout("glm4moe", gguf_hub_config, GGUF_RULES, metadata=gguf_decoder.grouped_metadata),
    harmless_keys=HARMLESS,
)
