"""Jina Embeddings v3: XLM-RoBERTa's body with rotary positions in place of a table.

Adapters for tasks are the business of files beside it. Source: Sturua et al. 2024 (arXiv 2409.10173), and the hub's
`jina_embeddings_v3` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import roberta
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import read_encoder, with_head, write_encoder, write_head
from octavo.models.mapping.keys import layer_rules, linear_rules
from octavo.models.mapping.rope import RopeSpelling, read_rope, write_rope
from octavo.models.mapping.tables.encoder_names import BLOCK
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_encoder(reader)
    rope = read_rope(reader, config.attention.head_dim, config.context_length, RopeSpelling(theta=20000.0))
    return with_head(reader, replace(config, rope=rope), masked="gelu")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    assert config.rope is not None, "it turns"
    rope = write_rope(config.rope, config.attention.head_dim, config.context_length)
    return {**write_encoder(config), **write_head(config.head, "JinaEmbeddingsV3"), **rope}


EMBEDDINGS = {"word_embeddings": "embed_tokens", "token_type_embeddings": "embed_types"}
LAYERS = {
    "mixer.out_proj": "attention.o", "norm1": "attention_output_norm", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down",
    "norm2": "mlp_output_norm",
}  # fmt: skip
JINA_EMBEDDINGS_V3 = replace(
    roberta.ROBERTA,
    name="jina_embeddings_v3",
    architecture="JinaEmbeddingsV3Model",
    read_config=read_config,
    write_config=write_config,
    rules=(
        *layer_rules("roberta.embeddings.", "", EMBEDDINGS),
        *linear_rules("roberta.emb_ln", "embed_norm"),
        *linear_rules("roberta.encoder.layers.{i}.mixer.Wqkv", *QKV),
        *layer_rules("roberta.encoder.layers.{i}.", BLOCK, LAYERS),
        *roberta.HEADS,
    ),
)
