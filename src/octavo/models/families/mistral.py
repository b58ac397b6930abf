"""Mistral 7B and its descendants: LLaMA's graph, but for a sliding window over the attended positions.

Files from v0.2 on have no window, and one that is as large as the context changes nothing. GGUF files carry the
architecture `llama`.
Source: Jiang et al. 2023 (arXiv 2310.06825).
"""

from __future__ import annotations

from typing import Any

from octavo.models.families.llama import gguf_hub_config
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, window_size, with_windows, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES, OLD_BUFFERS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader))
    return with_windows(config, (True,) * config.num_layers, reader.optional_integer("sliding_window", 4096))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), "sliding_window": window_size(config)}


MISTRAL = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("llama", gguf_hub_config, gguf_names.PAIR_RULES, when=lambda own: False),  # read as a LLaMA
    neutral_values={"attention_bias": (False,), "mlp_bias": (False,)},
    harmless_tensors=OLD_BUFFERS,
)
