"""CodeT5+ for retrieval: a T5 with two small heads (220M bimodal), and its encoder with one of them (110M embedding).

The heads are no part of a `Transformer`: `proj`, of a text's vector, and `itm_head`, of whether a text and code match,
are read where they are used. Generation alone (codet5p-220m, -770m) is plain `t5`. Source: Wang et al. 2023
(arXiv 2305.07922) and the hub's `codet5p_bimodal` and `codet5p_embedding` configs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import t5
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule
from octavo.nn.config import TransformerConfig

HARMLESS_KEYS = {**t5.T5.harmless_keys, "embed_dim": "the head's tensor says it"}
HEADS = (r"proj\.(weight|bias)", r"itm_head\.(weight|bias)")


def read_encoder_config(reader: ConfigReader) -> TransformerConfig:
    """The encoder alone."""
    config = t5.read_config(reader, both_sides=(True, False))
    return config.memory or config


def write_encoder_config(config: TransformerConfig) -> dict[str, Any]:
    """What `read_encoder_config` reads to the same switches."""
    decoder = replace(config, encoder=None, memory=config)
    written = {**t5.write_config(decoder), "architectures": ["CodeT5p_Embedding"]}
    return {key: value for key, value in written.items() if key not in ("num_decoder_layers", "scale_decoder_outputs")}


CODET5P_BIMODAL = replace(
    t5.T5,
    name="codet5p_bimodal",
    architecture="CodeT5pBimodalModel",
    write_config=lambda config: {**t5.write_config(config), "architectures": ["CodeT5pBimodalModel"]},
    harmless_keys=HARMLESS_KEYS,
    harmless_tensors=(*t5.T5.harmless_tensors, *HEADS),
)
CODET5P_EMBEDDING = Family(
    name="codet5p_embedding",
    architecture="CodeT5p_Embedding",
    read_config=read_encoder_config,
    write_config=write_encoder_config,
    rules=(KeyRule("shared.weight", ("embed_tokens.weight",)), *t5.stack("encoder", "", cross=False)),
    prefix="",
    harmless_keys=HARMLESS_KEYS,
    neutral_values={"is_encoder_decoder": (True, False), "is_decoder": (False,)},
    harmless_tensors=(r"encoder\.embed_tokens\.weight", *HEADS),
)
