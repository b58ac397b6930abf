"""Where the published checkpoints of CKIP Tagger lie, and what a config of ours says."""

from __future__ import annotations

from octavo.nn.recurrent.tagger_config import TaggerTask

PUBLISHED: dict[TaggerTask, str] = {
    "ws": "model_ws/model_asbc_Att-0_BiLSTM-cross-2-500_batch128-run1",
    "pos": "model_pos/model_asbc_Att-0_BiLSTM-2-500_batch256-run1",
    "ner": "model_ner/model_ontochinese_Att-0_BiLSTM-2-500_batch128-run1",
}
"""The published checkpoints, in their folder."""
KINDS = {
    "task": str, "labels": list, "tags": list, "num_characters": int, "character_size": int, "hidden_size": int,
    "num_layers": int, "num_words": int, "word_size": int,
}  # fmt: skip
