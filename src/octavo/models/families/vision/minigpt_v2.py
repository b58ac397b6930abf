"""MiniGPT-v2: a ViT whose patches, four that follow each other as one, go through one layer into the language model.

Its authors publish the parts in files of their own; the folder read here has them as BLIP-2 spells the ViT, and the
layer as they do. Source: Chen et al. 2023 (arXiv 2310.09478).
"""

from __future__ import annotations

from octavo.errors import FormatError
from octavo.models.families.vision.blip2 import read_tower, tower_rules
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.vision_row import VisionParts, VisionRow
from octavo.nn.config import TransformerConfig
from octavo.nn.vision.config import ProjectorConfig

MERGED = 4


def read(reader: ConfigReader, text_size: int) -> VisionParts:
    """A config in the hub's style to parts."""
    tower = read_tower(reader)
    if tower.patches is None or tower.patches.count % MERGED:
        raise FormatError(f"{reader.source} has images whose patches are no multiple of {MERGED}")
    projector = ProjectorConfig(tower.hidden_size, text_size, skip_class=True, merge=MERGED)
    return VisionParts(tower, projector, reader.integer("image_token_index", "image_token_id", low=0))


def rules(config: TransformerConfig) -> tuple[KeyRule, ...]:
    """The tower's tensors."""
    return tower_rules("")


MINIGPT_V2 = VisionRow(
    name="minigpt_v2",
    read=read,
    rules=rules,
    projector={"out": "llama_proj"},
)
