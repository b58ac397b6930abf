"""Idefics3 and SmolVLM: SigLIP's patches, a square of them joined, one layer into the language model.

Source: Laurencon et al. 2024 (arXiv 2408.12637), Marafioti et al. 2025 (arXiv 2504.05299), and the hub's configs.
"""

from __future__ import annotations

from dataclasses import replace

from octavo.errors import FormatError
from octavo.models.families import siglip_vision
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.image import clip_rules
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.config_keys import IMAGE_HARMLESS
from octavo.models.mapping.vision_row import VisionParts, VisionRow
from octavo.nn.config import TransformerConfig
from octavo.nn.vision.config import ProjectorConfig


def read(reader: ConfigReader, text_size: int) -> VisionParts:
    """The hub's config to parts."""
    vision = reader.section("vision_config")
    if vision is None:
        raise FormatError(f"{reader.source} lacks vision_config; fetch it again")
    vision.skip("model_type", "attention_dropout", "initializer_range", "dtype", "size", "max_image_size")
    vision.skip("use_base_siglip", "tie_word_embeddings", *IMAGE_HARMLESS)
    tower = siglip_vision.read_config(vision)
    side = reader.integer("scale_factor", default=2, high=64)
    if tower.patches is None or round(tower.patches.count**0.5) % side:
        raise FormatError(f"{reader.source} has a scale_factor of {side}, which does not divide the rows of patches")
    projector = ProjectorConfig(tower.hidden_size, text_size, bias=False, merge=side * side, along="square")
    return VisionParts(tower, projector, reader.integer("image_token_id", low=0))


def rules(config: TransformerConfig) -> tuple[KeyRule, ...]:
    """The tower's tensors."""
    return clip_rules("model.vision_model.")


IDEFICS3 = VisionRow(
    name="idefics3",
    read=read,
    rules=rules,
    projector={"out": "model.connector.modality_projection.proj"},
    harmless_keys={
        "_pad_token_id": "read with the generation defaults",
        "tie_word_embeddings": "the text_config's own counts",
        "vocab_size": "the text_config's own counts",
    },
)
SMOLVLM = replace(IDEFICS3, name="smolvlm")
