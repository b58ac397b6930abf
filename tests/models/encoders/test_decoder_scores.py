"""Decoders with a head for classification (rewards, values, rerankers) against transformers' own classes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from transformers import AutoConfig

from octavo.errors import UnsupportedError
from octavo.generate.rerank import Reranker
from octavo.models.checkpoint import open_checkpoint
from octavo.models.encoders.heads import labels_of, make_head
from octavo.models.encoders.runner import EncoderRow
from octavo.models.loading import make_encoder, make_runner

SIZES = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
ROWS = [list(range(5, 25)), list(range(30, 37))]


def make(folder: Path, architecture: str, labels: int) -> Any:
    kind = architecture.split("For")[0].lower()
    config = AutoConfig.for_model(kind, **SIZES, num_labels=labels)
    model = getattr(transformers, architecture)(config)
    runpy.run_path(str(Path(__file__).parents[2] / "parity/tiny.py"))["jitter"](model, 0)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("runner", ["kernels", "torch"])
@pytest.mark.parametrize(
    ("architecture", "labels"),
    [
        ("LlamaForSequenceClassification", 1),
        ("Qwen2ForSequenceClassification", 3),
        ("LlamaForTokenClassification", 2),
        ("PhiForSequenceClassification", 2),
    ],
)
def test_scores_are_those_of_the_peer(architecture: str, labels: int, runner: Any, tmp_path: Path) -> None:
    peer = make(tmp_path, architecture, labels)
    checkpoint = open_checkpoint(tmp_path)
    encoder = make_encoder(checkpoint, runner=runner)
    hidden = encoder.encode([EncoderRow(row) for row in ROWS])
    encoder.close()
    scores = make_head(checkpoint)(hidden, np.array([len(row) for row in ROWS]))
    with torch.no_grad():
        theirs = [peer(torch.tensor([row])).logits[0].numpy() for row in ROWS]
    expected = np.concatenate([row.reshape(-1, labels) for row in theirs])
    assert scores.shape == expected.shape and np.abs(scores - expected).max() <= 2e-4
    assert labels_of(checkpoint) == (None if "Token" in architecture else labels)


def test_a_decoder_that_scores_reranks_and_refuses_to_write(tmp_path: Path) -> None:
    peer = make(tmp_path, "LlamaForSequenceClassification", 1)
    words = {f"w{number}": number for number in range(160)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    with Reranker.load(str(tmp_path), runner="torch") as reranker:
        scores = reranker.score("w5 w6", ["w7 w8 w9", "w10"])
    with torch.no_grad():
        expected = [float(peer(torch.tensor([ids])).logits) for ids in ([5, 6, 7, 8, 9], [5, 6, 10])]
    assert np.abs(scores - expected).max() <= 1e-4
    with pytest.raises(UnsupportedError, match="scores texts"):
        make_runner(open_checkpoint(tmp_path), num_blocks=1)
