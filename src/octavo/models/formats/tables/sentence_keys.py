"""What the files of the sentence-transformers layout may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Pooling = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
POOLING_KEYS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
KINDS = (
    ["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"], ["Transformer", "LogitScore"]
)  # fmt: skip
HARMLESS_POOLING_KEYS = ("word_embedding_dimension", "embedding_dimension")
