"""MPNet: RoBERTa's body without kinds of tokens, each score with a learned bias by distance, as T5 has it.

Source: Song et al. 2020 (arXiv 2004.09297), and the hub's `mpnet` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import roberta
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import with_attention
from octavo.models.mapping.encoder import read_encoder, with_head, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.nn.config import RelativeConfig, TransformerConfig

BUCKETS, MAX_DISTANCE, OFFSET = 32, 128, 2
"""The peer has these whatever a config says: positions begin at row 2 with any padding."""


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_encoder(reader, position_offset=OFFSET)
    config = with_attention(config, relative=RelativeConfig(BUCKETS, MAX_DISTANCE, positions=True))
    assert config.encoder is not None
    return with_head(reader, replace(config, encoder=replace(config.encoder, token_types=0)), masked="gelu")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = write_encoder(config)
    del written["type_vocab_size"]
    own = {"relative_attention_num_buckets": BUCKETS, "pad_token_id": OFFSET - 1}
    return {**written, **write_head(config.head, "MPNet"), **own}


EMBEDDINGS = {"word_embeddings": "embed_tokens", "position_embeddings": "embed_positions", "LayerNorm": "embed_norm"}
LAYERS = {
    **{f"attention.attn.{name}": f"attention.{name}" for name in "qkvo"},
    "attention.LayerNorm": "attention_output_norm", "intermediate.dense": "mlp.up", "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_output_norm",
}  # fmt: skip
MPNET = Family(
    name="mpnet",
    architecture="MPNetModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *layer_rules("mpnet.embeddings.", "", EMBEDDINGS),
        *layer_rules("mpnet.encoder.layer.{i}.", "blocks.{i}.", LAYERS),
        KeyRule("mpnet.encoder.relative_attention_bias.weight", ("relative_bias.weight",)),
        *roberta.HEADS,
    ),
    prefix="mpnet.",
    harmless_keys=ENCODER_HARMLESS,
    neutral_values={**ENCODER_NEUTRAL, "relative_attention_num_buckets": (BUCKETS,)},
    harmless_tensors=(
        r"mpnet\.embeddings\.position_ids",
        r"mpnet\.pooler\.dense\.(weight|bias)",
        r"lm_head\.(decoder\.)?bias",
    ),
)
