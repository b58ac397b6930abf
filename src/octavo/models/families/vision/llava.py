"""LLaVA: CLIP's or SigLIP's patches of a late block, two layers into the language model.

Source: Liu et al. 2023 (arXiv 2304.08485, 2310.03744), and the hub's `llava` config.
"""

from __future__ import annotations

from dataclasses import replace

from octavo.errors import FormatError
from octavo.models.families import clip_vision, siglip_vision
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.image import clip_rules
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.config_keys import IMAGE_HARMLESS
from octavo.models.mapping.tables.spellings import ACTIVATIONS
from octavo.models.mapping.vision_row import VisionParts, VisionRow
from octavo.nn.config import TransformerConfig
from octavo.nn.vision.config import ProjectorConfig

TOWERS = {"clip_vision_model": clip_vision.read_config, "siglip_vision_model": siglip_vision.read_config}
SELECTS = {"default": True, "full": False}


def read(reader: ConfigReader, text_size: int) -> VisionParts:
    """The hub's config to parts."""
    vision = reader.section("vision_config")
    if vision is None:
        raise FormatError(f"{reader.source} lacks vision_config; fetch it again")
    vision.skip("model_type", "attention_dropout", "initializer_range", "dtype", "torch_dtype", "vocab_size")
    vision.skip(*IMAGE_HARMLESS)
    layer = reader.take("vision_feature_layer", -2)
    if type(layer) is not int or layer >= 0:
        raise FormatError(
            f"{reader.source} has vision_feature_layer {layer!r}; one counted from the end is read, such as -2",
            param="vision_feature_layer",
        )
    read_tower = vision.choice("model_type", table=TOWERS, default="clip_vision_model")
    tower = replace(read_tower(vision, layers_left_out=-1 - layer), final_norm=False)  # a block's output as it is
    skip_class = reader.choice("vision_feature_select_strategy", table=SELECTS, default="default")
    projector = ProjectorConfig(
        tower.hidden_size,
        text_size,
        reader.choice("projector_hidden_act", table=ACTIVATIONS, default="gelu"),
        bias=reader.flag("multimodal_projector_bias", default=True),
        skip_class=skip_class,
    )
    return VisionParts(tower, projector, reader.integer("image_token_index", "image_token_id", low=0))


def rules(config: TransformerConfig) -> tuple[KeyRule, ...]:
    """The tower's tensors."""
    return clip_rules("vision_tower.")


LLAVA = VisionRow(
    name="llava",
    read=read,
    rules=rules,
    projector={"up": "multi_modal_projector.linear_1", "out": "multi_modal_projector.linear_2"},
    harmless_keys={
        "image_seq_length": "how many positions an image has is the tower's",
        "tie_word_embeddings": "the text_config's own counts",
        "ignore_index": "training only",
        "pad_token_id": "read with the generation defaults",
        "vocab_size": "the text_config's own counts",
    },
    harmless_tensors=(r"vision_tower\.(post_layernorm|encoder\.layers|head)\..*", r"vision_tower\..*position_ids"),
)
