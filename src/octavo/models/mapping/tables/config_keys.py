"""Keys of configs that change nothing, with the reason, and keys that are accepted with some values only.

Those of every family first, then what encoders, encoders of images and experts have beside them; and those of
generation_config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HARMLESS: Mapping[str, str] = {
    **dict.fromkeys(("architectures", "model_type"), "the row is already chosen"),
    **dict.fromkeys(("dtype", "torch_dtype"), "tensors say their own type"),
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), "read with the generation defaults"),
    **dict.fromkeys(("_name_or_path", "transformers_version", "transformers.js_config"), "where the file comes from"),
    **dict.fromkeys(("use_cache", "return_dict", "output_attentions", "output_hidden_states"), "how peers are called"),
    **dict.fromkeys(("initializer_range", "attention_dropout"), "training only"),
    **dict.fromkeys(("id2label", "label2id", "problem_type", "task_specific_params"), "for heads that are not here"),
    "auto_map": "names code of the hub's, which never runs here",
    "tokenizer_class": "the tokenizer's files say it",
    "cache_implementation": "how peers keep keys and values",
    "chunk_size_feed_forward": "cuts the same sums into pieces",
    "pretraining_tp": "cuts the same sums into pieces",
}
"""Config keys that change nothing in the result, with the reason."""

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (),
    "pruned_heads": ({},),
}
"""Config keys that are accepted with these values only, because they switch nothing on."""
ENCODER_HARMLESS = {
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob"),
        "dropout acts in training only",
    ),
    "num_labels": "read with the head",
    "gradient_checkpointing": "how it trains",
    "directionality": "how peers are called",
    **dict.fromkeys(
        ("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
        "peers do not read them",
    ),
    "output_past": "how peers are called",
}
ENCODER_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "hidden_size_per_head": (),
}
IMAGE_HARMLESS = {
    **dict.fromkeys(
        ("dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"), "dropout acts in training only"
    ),
    **dict.fromkeys(("initializer_factor", "encoder_stride"), "training only"),
    **dict.fromkeys(("pooler_act", "pooler_output_size", "projection_dim", "vision_use_head"), "of a pooled vector"),
    "num_labels": "read with the head",
}
TRAINING_OF_EXPERTS = dict.fromkeys(
    ("output_router_logits", "router_aux_loss_coef", "router_jitter_noise"), "training only"
)  # fmt: skip
SEARCHED = dict.fromkeys(
    (*("num_beams", "length_penalty", "early_stopping", "min_length", "max_length", "no_repeat_ngram_size"),
     *("encoder_no_repeat_ngram_size", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids"),
     *("suppress_tokens", "renormalize_logits", "decoder_start_token_id", "prefix")),
    "read where text is generated",
)  # fmt: skip
GENERATION_HARMLESS = {
    **dict.fromkeys(("_from_model_config", "transformers_version", "_name_or_path"), "where the file comes from"),
    **dict.fromkeys(("bos_token_id", "pad_token_id", "decoder_start_token_id"), "the tokenizer's business"),
    **dict.fromkeys(("max_length", "max_new_tokens", "min_length"), "the request says how long"),
    **dict.fromkeys(("use_cache", "cache_implementation", "output_attentions", "output_hidden_states"), "how it runs"),
    **dict.fromkeys(
        ("return_dict_in_generate", "output_scores", "output_logits", "assistant_early_exit"), "how it runs"
    ),
    "max_matching_ngram_size": "only for a draft",
    "prompt_lookup_num_tokens": "only for a draft",
}
GENERATION_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "typical_p": (1, 1.0),
    "min_p": (0, 0.0),
    "epsilon_cutoff": (0, 0.0),
    "eta_cutoff": (0, 0.0),
    "diversity_penalty": (0, 0.0),
    "encoder_repetition_penalty": (1, 1.0),
    "remove_invalid_values": (False,),
    "token_healing": (False,),
    "guidance_scale": (1, 1.0),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ({},),
    "stop_strings": ([],),
}
SEARCH_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "length_penalty": (1, 1.0),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "early_stopping": (False,),
    "renormalize_logits": (False, True),
    "suppress_tokens": ([],),
    "bad_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
}
"""What only an encoder-decoder's answers are searched by."""
