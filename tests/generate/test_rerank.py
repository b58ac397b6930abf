"""Cross-encoders against `transformers`: pairs, truncation, order; a model of another kind is refused."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import UnsupportedError
from octavo.generate.rerank import Reranker, ranked, relevance

PARITY = Path(__file__).parents[1] / "parity"
PASSAGES = ["paris is the capital of france", "rome", "a long text " * 60, "", "the capital"]


@pytest.fixture(scope="module")
def cross_encoder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of random weights with MiniLM's vocabulary."""
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("cross")
    config = BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, max_position_embeddings=128,
        num_labels=1,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    runpy.run_path(str(PARITY / "tiny.py"))["jitter"](model, 3)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(minilm / name, folder)
    return folder


@pytest.mark.parametrize(("runner", "weights", "bound"), [("torch", "f32", 1e-4), ("kernels", "f32", 1e-4)])
def test_scores_equal_transformers(runner: str, weights: str, bound: float, cross_encoder: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder).eval()
    query = "what is the capital of france?"
    pairs = tokenizer([query] * 5, PASSAGES, padding=True, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        expected = model(**pairs).logits[:, 0].numpy()
    with Reranker.load(str(cross_encoder), runner=runner, weights=weights) as reranker:  # type: ignore[arg-type]
        scores = reranker.score(query, PASSAGES)
        best = reranker.rank(query, PASSAGES, top=2)
    assert np.abs(scores - expected).max() <= bound
    assert [place.index for place in best] == np.argsort(-expected)[:2].tolist()


def test_an_embedder_is_no_reranker(minilm: Path) -> None:
    with pytest.raises(UnsupportedError, match="is no reranker"):
        Reranker.load(str(minilm))


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30))
def test_relevance_keeps_the_order_and_ties_keep_theirs(logits: list[float]) -> None:
    scores = np.array(logits, np.float32)
    places = [place.index for place in ranked(scores)]
    assert places == sorted(range(len(logits)), key=lambda index: (-scores[index], index))
    between = relevance(scores)
    assert ((between >= 0) & (between <= 1)).all()
    assert (np.diff(between[places]) <= 0).all()
