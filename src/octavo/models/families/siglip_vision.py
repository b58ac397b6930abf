"""SigLIP's image encoder: no class token, a norm at the end; what SmolVLM sees with.

Source: Zhai et al. 2023 (arXiv 2303.15343), and the hub's `siglip_vision_model` config.
"""

from __future__ import annotations

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.image import clip_rules, read_image_encoder, write_image_encoder
from octavo.models.mapping.tables.config_keys import IMAGE_HARMLESS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader, *, layers_left_out: int = 0) -> TransformerConfig:
    """A hub config to switches."""
    return read_image_encoder(
        reader, class_token=False, activation="gelu_pytorch_tanh", layers_left_out=layers_left_out
    )


SIGLIP_VISION = Family(
    name="siglip_vision_model",
    architecture="SiglipVisionModel",
    read_config=read_config,
    write_config=write_image_encoder,
    rules=clip_rules(""),
    prefix="",
    harmless_keys=IMAGE_HARMLESS,
    harmless_tensors=(r"head\..*", r"embeddings\.position_ids"),
)
