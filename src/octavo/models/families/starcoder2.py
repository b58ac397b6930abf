"""StarCoder 2: LayerNorms, biases everywhere, a plain MLP, grouped-query attention over a window of 4,096 tokens.

Source: Lozhkov et al. 2024 (arXiv 2402.19173), and the hub's `starcoder2` config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, window_size, with_biases, with_windows, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import linear_rules
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import ATTENTION, BODY, LAYER, PRE_NORMS
from octavo.nn.config import NormConfig, TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm, bias = NormConfig("layer", reader.number("norm_epsilon")), reader.flag("use_bias", default=True)
    config = read_decoder(reader, norm, gated=False, tie=True, activation="gelu_pytorch_tanh")
    config = with_biases(config, qkv=bias, output=bias, mlp=bias)
    return with_windows(config, (True,) * config.num_layers, reader.optional_integer("sliding_window", None))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = write_decoder(config)
    eps = written.pop("layer_norm_eps")
    return {**written, "norm_epsilon": eps, "use_bias": config.mlp.bias, "sliding_window": window_size(config)}


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `starcoder2` in hub spelling; files do not tell of the window."""
    config = gguf_decoder.decoder_config(reader, present)
    eps = config.pop("layer_norm_eps")
    return {**config, "norm_epsilon": eps, "use_bias": present("blk.0.attn_q.bias")}


STARCODER2 = Family(
    name="starcoder2",
    architecture="Starcoder2ForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *BODY, *ATTENTION, *PRE_NORMS,
        *linear_rules(LAYER + "mlp.c_fc", "blocks.{i}.mlp.up"),
        *linear_rules(LAYER + "mlp.c_proj", "blocks.{i}.mlp.down"),
    ),
    gguf=GgufLayout("starcoder2", gguf_hub_config, gguf_names.RULES),
    harmless_keys={
        **dict.fromkeys(("residual_dropout", "embedding_dropout"), "dropout acts in training only"),
        **dict.fromkeys(("mlp_type", "norm_type"), "the only ones there are"),
        "max_window_layers": "peers do not read it",
    },
)  # fmt: skip
