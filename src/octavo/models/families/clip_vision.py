"""CLIP's image encoder: quick GELU, a norm before the blocks; what LLaVA sees with.

Source: Radford et al. 2021 (arXiv 2103.00020), and the hub's `clip_vision_model` config.
"""

from __future__ import annotations

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.image import clip_rules, read_image_encoder, write_image_encoder
from octavo.models.mapping.tables.config_keys import IMAGE_HARMLESS
from octavo.nn.config import TransformerConfig

HARMLESS_TENSORS = (r"post_layernorm\.(weight|bias)", r"embeddings\.position_ids")


def read_config(reader: ConfigReader, *, layers_left_out: int = 0) -> TransformerConfig:
    """A hub config to switches; the norm at the end is of a pooled vector alone."""
    return read_image_encoder(
        reader,
        bias=False,
        embedding_norm=True,
        final_norm=False,
        activation="quick_gelu",
        eps=1e-5,
        layers_left_out=layers_left_out,
    )


CLIP_VISION = Family(
    name="clip_vision_model",
    architecture="CLIPVisionModel",
    read_config=read_config,
    write_config=write_image_encoder,
    rules=clip_rules(""),
    prefix="",
    harmless_keys=IMAGE_HARMLESS,
    harmless_tensors=HARMLESS_TENSORS,
)
