"""BART: Marian's encoder-decoder with learned positions and a norm of the summed embeddings on both sides.

Unusual: positions begin at row 2 of their tables. Source: Lewis et al. 2019 (arXiv 1910.13461), and the hub's `bart`
config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import marian
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = marian.read_config(reader)
    assert config.memory is not None, "it has two sides"
    memory = replace(config.memory, sinusoidal=False, embedding_norm=True)
    return replace(config, sinusoidal=False, embedding_norm=True, memory=memory)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = marian.write_config(config)
    del written["share_encoder_decoder_embeddings"]
    return {**written, "architectures": ["BartForConditionalGeneration"]}


def _embeddings(hub: str, ours: str) -> tuple[KeyRule, ...]:
    positions = KeyRule(f"model.{hub}.embed_positions.weight", (f"{ours}embed_positions.weight",), "after_two")
    return (positions, *linear_rules(f"model.{hub}.layernorm_embedding", f"{ours}embed_norm"))


BART = Family(
    name="bart",
    architecture="BartForConditionalGeneration",
    read_config=read_config,
    write_config=write_config,
    rules=(*marian.MARIAN.rules, *_embeddings("encoder", "memory."), *_embeddings("decoder", "")),
    prefix="",
    harmless_keys=marian.MARIAN.harmless_keys,
    neutral_values={
        "is_encoder_decoder": (True,), "normalize_embedding": (True,), "is_decoder": (False,),
        **dict.fromkeys(("normalize_before", "add_final_layer_norm", "add_bias_logits", "static_position_embeddings"),
                        (False,)),
    },
    harmless_tensors=(r"model\.(encoder|decoder)\.embed_tokens\.weight", r"classification_head\..*"),
)  # fmt: skip
MVP = replace(
    BART,
    name="mvp",
    architecture="MvpForConditionalGeneration",
    write_config=lambda config: {**write_config(config), "architectures": ["MvpForConditionalGeneration"]},
    harmless_keys={
        **BART.harmless_keys, **dict.fromkeys(("prompt_length", "prompt_mid_dim"), "of prompts that use_prompt has")
    },
    neutral_values={**BART.neutral_values, "use_prompt": (False,)},
)  # fmt: skip
"""MVP without prompts (Tang et al. 2022, arXiv 2206.12131), which is a BART."""
