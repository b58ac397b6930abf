"""GPT-Neo: GPT-2's graph with unscaled scores and, in every second block, a window of 256 tokens.

Source: Black et al. 2021, and the hub's `gpt_neo` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.errors import FormatError
from octavo.models.families import gpt2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.nn.config import TransformerConfig

NAMES = {
    "n_embd": "hidden_size", "n_layer": "num_layers", "n_head": "num_heads", "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
}  # fmt: skip
"""GPT-2's name -> this one's."""


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = with_attention(gpt2.read_config(reader), qkv_bias=False, scale=1.0)
    size, local = reader.integer("window_size", default=256), _local(reader, config.num_layers)
    return replace(config, windows=tuple(size if each else None for each in local))


def _local(reader: ConfigReader, num_layers: int) -> tuple[bool, ...]:
    """Which blocks have the window: `attention_layers`, or `attention_types`, [[kinds, times], ...]."""
    table = {"global": False, "local": True}
    kinds = reader.take("attention_types", [[["global", "local"], num_layers // 2]])
    listed = reader.take("attention_layers", None)
    try:
        layers = listed or [kind for group, times in kinds for _ in range(min(times, num_layers)) for kind in group]
        local = tuple(table[kind] for kind in layers)
    except (TypeError, ValueError, KeyError):
        local = ()
    if len(local) != num_layers:
        raise FormatError(
            f"{reader.source} has attention_types that do not say global or local of each of {num_layers} layers",
            param="attention_types",
        )
    return local


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = {NAMES.get(key, key): value for key, value in gpt2.write_config(config).items()}
    sizes = [window for window in config.windows if window is not None]
    kinds = ["global" if window is None else "local" for window in config.windows]
    return {**written, "window_size": sizes[0] if sizes else 256, "attention_types": [[kinds, 1]]}


LAYER, BLOCK = "transformer.h.{i}.", "blocks.{i}."
RULES = (
    KeyRule("transformer.wte.weight", ("embed_tokens.weight",)),
    KeyRule("transformer.wpe.weight", ("embed_positions.weight",)),
    *linear_rules(LAYER + "ln_1", BLOCK + "attention_norm"),
    *linear_rules(LAYER + "attn.attention.q_proj", BLOCK + "attention.q"),
    *linear_rules(LAYER + "attn.attention.k_proj", BLOCK + "attention.k"),
    *linear_rules(LAYER + "attn.attention.v_proj", BLOCK + "attention.v"),
    *linear_rules(LAYER + "attn.attention.out_proj", BLOCK + "attention.o"),
    *linear_rules(LAYER + "ln_2", BLOCK + "mlp_norm"),
    *linear_rules(LAYER + "mlp.c_fc", BLOCK + "mlp.up"),
    *linear_rules(LAYER + "mlp.c_proj", BLOCK + "mlp.down"),
    *linear_rules("transformer.ln_f", "norm"),
    KeyRule("lm_head.weight", ("lm_head.weight",)),
)

GPT_NEO = Family(
    name="gpt_neo",
    architecture="GPTNeoForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="transformer.",
    harmless_keys={
        **gpt2.HARMLESS,
        **dict.fromkeys(("resid_dropout", "embed_dropout", "classifier_dropout"), "dropout acts in training only"),
    },
    harmless_tensors=(r"transformer\.h\.\d+\.attn\.attention\.(bias|masked_bias)",),
)
