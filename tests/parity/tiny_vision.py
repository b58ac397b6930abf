"""Tiny models of the peer that see: encoders of images, and vision-language models; all tensors jittered."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

IMAGE = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28,
    "patch_size": 7,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "vocab_size": 99, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 80, "max_position_embeddings": 64,
}  # fmt: skip
OPT = {
    "model_type": "opt", "vocab_size": 99, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "ffn_dim": 80, "word_embed_proj_dim": 40, "max_position_embeddings": 64,
}  # fmt: skip
QFORMER = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 99,
    "encoder_hidden_size": 48, "cross_attention_frequency": 2,
}  # fmt: skip
IMAGE_TOKEN = 98


class Variant(NamedTuple):
    """model_type, the peer's class, what its config says, and how many positions an image has in the text."""

    model_type: str
    architecture: str
    config: dict[str, Any]
    positions: int = 0


ENCODERS = {
    "vit": Variant("vit", "ViTModel", IMAGE),
    "vit-classes": Variant("vit", "ViTForImageClassification", {**IMAGE, "num_labels": 3, "qkv_bias": False}),
    "clip": Variant("clip_vision_model", "CLIPVisionModel", {**IMAGE, "image_size": 30}),  # a border is left over
    "siglip": Variant("siglip_vision_model", "SiglipVisionModel", IMAGE),
}
BLIP2 = {"vision_config": IMAGE, "qformer_config": QFORMER, "num_query_tokens": 5, "image_token_index": IMAGE_TOKEN}
LLAVA = {"text_config": LLAMA, "image_token_index": IMAGE_TOKEN}
LANGUAGE = {
    "blip2-opt": Variant("blip-2", "Blip2ForConditionalGeneration", {**BLIP2, "text_config": OPT}, 5),
    "blip2-llama": Variant("blip-2", "Blip2ForConditionalGeneration", {**BLIP2, "text_config": LLAMA}, 5),
    "llava-clip": Variant(
        "llava", "LlavaForConditionalGeneration",
        {**LLAVA, "vision_config": {**IMAGE, "model_type": "clip_vision_model"}}, 16,
    ),
    "llava-siglip": Variant(
        "llava", "LlavaForConditionalGeneration",
        {
            **LLAVA, "vision_config": {**IMAGE, "model_type": "siglip_vision_model"}, "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full", "multimodal_projector_bias": False,
        }, 16,
    ),
    "idefics3": Variant(
        "idefics3", "Idefics3ForConditionalGeneration",
        {"vision_config": IMAGE, "text_config": LLAMA, "image_token_id": IMAGE_TOKEN, "scale_factor": 2}, 4,
    ),
    "smolvlm": Variant(
        "smolvlm", "SmolVLMForConditionalGeneration",
        {"vision_config": IMAGE, "text_config": LLAMA, "image_token_id": IMAGE_TOKEN, "scale_factor": 4}, 1,
    ),
}  # fmt: skip


def make_tiny(variant: Variant, folder: Path) -> PreTrainedModel:
    """Write the tiny model into `folder` as the peer does, and return it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(variant.model_type, **variant.config)
    model: PreTrainedModel = getattr(transformers, variant.architecture)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
            if name.endswith("qkv.bias"):  # keys have none in any published file
                parameter.view(3, -1)[1] = 0
    model.save_pretrained(folder)
    return model.requires_grad_(False)
