"""ViT: an encoder of an image's patches, and a class by its first position.

Source: Dosovitskiy et al. 2020 (arXiv 2010.11929), and the hub's `vit` config.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import HeadForm, read_head, when, write_head
from octavo.models.mapping.family import Family
from octavo.models.mapping.image import read_image_encoder, write_image_encoder
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.tables.config_keys import IMAGE_HARMLESS
from octavo.nn.config import TransformerConfig

LAYERS = {
    **{f"attention.attention.{name}": f"attention.{name[0]}" for name in ("query", "key", "value")},
    "attention.output.dense": "attention.o", "layernorm_before": "attention_norm", "layernorm_after": "mlp_norm",
    "intermediate.dense": "mlp.up", "output.dense": "mlp.down",
}  # fmt: skip


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_image_encoder(reader, qkv_bias=reader.flag("qkv_bias", default=True), eps=1e-12)
    assert config.encoder is not None
    head = read_head(reader, {"sequence": HeadForm()}, 0)
    return replace(config, encoder=replace(config.encoder, head=head))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    head = write_head(config.head, "ViT")
    if config.head is not None:
        head["architectures"] = ["ViTForImageClassification"]
    return {**write_image_encoder(config), "qkv_bias": config.attention.qkv_bias, **head}


VIT = Family(
    name="vit",
    architecture="ViTModel",
    read_config=read_config,
    write_config=write_config,
    rules=(
        KeyRule("vit.embeddings.cls_token", ("embed_class.weight",), "one_row"),
        KeyRule("vit.embeddings.position_embeddings", ("embed_positions.weight",), "one_row"),
        KeyRule("vit.embeddings.patch_embeddings.projection.weight", ("embed_patches.weight",), "patches"),
        KeyRule("vit.embeddings.patch_embeddings.projection.bias", ("embed_patches.bias",)),
        *layer_rules("vit.encoder.layer.{i}.", "blocks.{i}.", LAYERS),
        *linear_rules("vit.layernorm", "norm"),
        *when(linear_rules("classifier", "head.output"), "sequence"),
    ),
    prefix="vit.",
    harmless_keys=IMAGE_HARMLESS,
    harmless_tensors=(r"vit\.pooler\..*",),
)
