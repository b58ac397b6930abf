"""How folders of several models call the language model in them, and what its config may leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PREFIXES = {
    "model.language_model.": "model.", "language_model.": "", "model.text_model.": "model.",
}  # fmt: skip
"""What names of the language model's tensors begin with -> what they begin with in a file of it alone."""
OTHER = (
    "visual.", "vision", "model.vision", "model.visual", "multi_modal", "model.multi_modal", "model.connector",
    "model.mm_projector", "mlp1.", "audio", "model.audio",
)  # fmt: skip
"""What others' names begin with, where the language model's have no prefix."""
OTHER_KEYS = (
    "vision_config", "audio_config", "vision_start_token_id", "vision_end_token_id", "vision_token_id",
    "image_token_id", "video_token_id", "image_token_index",
)  # fmt: skip
"""Keys of the others, in a config without a part for each."""
SHARED_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id", "quantization_config")
"""Keys that hold for the language model, too, where they stand outside its config."""
TEXT_TYPES = {
    "qwen2_vl": "qwen2", "qwen2_vl_text": "qwen2", "qwen2_5_vl": "qwen2", "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe",
    "mistral3": "mistral", "gemma3": "gemma3_text", "blip-2": "opt",
    "instructblip": "opt", "internvl": "qwen2", "llava_onevision": "qwen2", "paligemma": "gemma", "pixtral": "mistral",
    "idefics2": "mistral", "aria": "aria_text", "fuyu": "persimmon",
}  # fmt: skip
"""A folder's model_type, or a language model's that is another's by its graph when it reads text alone -> that one's.

Positions of images have three numbers in Qwen's; of text, all three are the token's place.
"""
IMPLIED: Mapping[str, Mapping[str, Any]] = {"qwen3_vl_moe_text": {"norm_topk_prob": True}}
"""What a language model does without saying so."""
_LLAMA = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
}  # fmt: skip
_GEMMA3 = {
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
}  # fmt: skip
_MISTRAL = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
}  # fmt: skip
_QWEN2 = {
    "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
}  # fmt: skip
_GEMMA = {
    "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
}  # fmt: skip
_OPT = {
    "vocab_size": 50272, "hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 2048,
}  # fmt: skip
CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": _LLAMA, "gemma3_text": _GEMMA3, "mistral": _MISTRAL, "qwen2": _QWEN2, "gemma": _GEMMA, "opt": _OPT,
}  # fmt: skip
"""What a language model's config may leave out, since its class in `transformers` has it."""
