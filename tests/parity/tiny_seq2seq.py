"""Tiny encoder-decoders of the live peer, by a name that begins with their model_type."""

from __future__ import annotations

from collections.abc import Callable

import transformers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

T5_SHAPE = {
    "vocab_size": 160, "d_model": 48, "d_kv": 10, "d_ff": 72, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": 0,
}  # fmt: skip
MARIAN_SHAPE = {
    "vocab_size": 160, "d_model": 48, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 72, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
    "pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip
BART_SHAPE = {**MARIAN_SHAPE, "bos_token_id": 2}
VARIANTS: dict[str, Callable[[], transformers.PreTrainedModel]] = {
    "t5": lambda: T5ForConditionalGeneration(T5Config(**T5_SHAPE)),
    "t5 v1.1": lambda: T5ForConditionalGeneration(
        T5Config(**T5_SHAPE, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
    "t5 gated and tied": lambda: T5ForConditionalGeneration(T5Config(**T5_SHAPE, feed_forward_proj="gated-silu")),
    "t5 gelu": lambda: T5ForConditionalGeneration(T5Config(**T5_SHAPE, feed_forward_proj="gelu")),
    "t5 exact gate": lambda: T5ForConditionalGeneration(
        T5Config(**T5_SHAPE, feed_forward_proj="gated-gelu", dense_act_fn="gelu")
    ),
    "marian": lambda: MarianMTModel(MarianConfig(**MARIAN_SHAPE, activation_function="swish", scale_embedding=True)),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**BART_SHAPE)),
    "bart scaled": lambda: BartForConditionalGeneration(
        BartConfig(**BART_SHAPE, scale_embedding=True, activation_function="relu")
    ),
    "mt5": lambda: transformers.MT5ForConditionalGeneration(
        transformers.MT5Config(**T5_SHAPE, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
    "mvp": lambda: transformers.MvpForConditionalGeneration(transformers.MvpConfig(**BART_SHAPE)),
    "mbart": lambda: transformers.MBartForConditionalGeneration(transformers.MBartConfig(**BART_SHAPE)),
    "plbart": lambda: transformers.PLBartForConditionalGeneration(transformers.PLBartConfig(**BART_SHAPE)),
    "pegasus": lambda: transformers.PegasusForConditionalGeneration(
        transformers.PegasusConfig(**MARIAN_SHAPE, scale_embedding=True)
    ),
    "blenderbot": lambda: transformers.BlenderbotForConditionalGeneration(
        transformers.BlenderbotConfig(**BART_SHAPE, encoder_no_repeat_ngram_size=0)
    ),
    "m2m_100": lambda: transformers.M2M100ForConditionalGeneration(
        transformers.M2M100Config(**{**BART_SHAPE, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2})
    ),
    "marian plain": lambda: MarianMTModel(MarianConfig(**MARIAN_SHAPE, scale_embedding=False)),
}
