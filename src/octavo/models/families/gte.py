"""GTE: BERT with rotary positions and gated MLPs, of which only the last matrix has a bias.

Snowflake's Arctic Embed 2 medium is of this shape. The authors' own files call it `new`, with keys of their own.
Source: Zhang et al. 2024 (arXiv 2407.19669), and the hub's `gte` and `new` configs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import read_encoder, when, with_head, write_encoder, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.rope import RopeSpelling, read_rope, write_rope
from octavo.models.mapping.tables.config_keys import ENCODER_HARMLESS, ENCODER_NEUTRAL
from octavo.models.mapping.tables.encoder_names import BERT_EMBEDDINGS, BLOCK
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_encoder(reader)
    rope = read_rope(reader, config.attention.head_dim, config.context_length, RopeSpelling(theta=160000.0))
    config = replace(config, rope=rope, mlp=replace(config.mlp, gated=True, bias="down"))
    return with_head(reader, config, masked="gelu")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.rope is not None, "a GTE turns"
    rope = write_rope(config.rope, config.attention.head_dim, config.context_length)
    return {**write_encoder(config), **write_head(config.head, "Gte"), **rope}


LAYERS = {
    "attention.o_proj": "attention.o", "attn_ln": "attention_output_norm", "mlp.down_proj": "mlp.down",
    "mlp_ln": "mlp_output_norm",
}  # fmt: skip


def _rules(prefix: str) -> tuple[KeyRule, ...]:
    layer = prefix + "encoder.layer.{i}."
    return (
        *layer_rules(prefix + "embeddings.", "", BERT_EMBEDDINGS),
        *linear_rules(layer + "attention.qkv_proj", *QKV),
        *layer_rules(layer, BLOCK, LAYERS),
        *linear_rules(layer + "mlp.up_gate_proj", BLOCK + "mlp.up", BLOCK + "mlp.gate"),
        *when(linear_rules(prefix + "pooler.dense", "head.dense"), "sequence"),
    )


HEADS = (
    *when(linear_rules("lm_head.dense", "head.dense"), "masked_lm"),
    *when(linear_rules("lm_head.norm", "head.norm"), "masked_lm"),
    *linear_rules("lm_head.decoder", "lm_head"),
    *when(linear_rules("classifier", "head.output"), "sequence", "tokens"),
)
GTE = Family(
    name="gte",
    architecture="GteModel",
    read_config=read_config,
    write_config=write_config,
    rules=(*_rules("gte."), *_rules("new."), *HEADS),
    prefix="gte.",
    harmless_keys=ENCODER_HARMLESS,
    neutral_values=ENCODER_NEUTRAL,
    harmless_tensors=(
        r"(gte|new)\.embeddings\.position_ids", r"(gte|new)\.pooler\.dense\.(weight|bias)",
        r"lm_head\.(dense|norm|decoder)\.(weight|bias)",
    ),
)  # fmt: skip
NEW = replace(
    GTE,
    name="new",
    architecture="NewModel",
    rules=(*_rules("new."), *HEADS),
    prefix="new.",
    write_config=lambda config: {**write_config(config), **write_head(config.head, "New")},
    harmless_keys={
        **ENCODER_HARMLESS,
        **dict.fromkeys(("unpad_inputs", "use_memory_efficient_attention"), "how it runs"),
    },
    neutral_values={
        **ENCODER_NEUTRAL, "position_embedding_type": ("rope",), "layer_norm_type": ("layer_norm",),
        "logn_attention_scale": (False,), "logn_attention_clip1": (False,), "pack_qkv": (True,),
    },
)  # fmt: skip
"""The authors' spelling."""
