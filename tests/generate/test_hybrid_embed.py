"""BGE-M3's heads against transformers' own encoder and the formulas of the paper, on a tiny model with random heads."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from transformers import AutoConfig, XLMRobertaModel

from octavo.errors import FormatError, UnsupportedError
from octavo.generate.tasks.hybrid_embed import HybridEmbedder, multi_score, sparse_score

TEXTS = ["w5 w6 w7 w6", "w9", "w7 w8 w30 w31 w32 w7 w7"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("m3")
    return folder, make_m3(folder)


def make_m3(folder: Path) -> Any:
    """A tiny BGE-M3 with random heads in a folder; the peer's encoder of it."""
    config = AutoConfig.for_model(
        "xlm-roberta", hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=160,
        max_position_embeddings=64, type_vocab_size=1, pad_token_id=1,
    )  # fmt: skip
    peer: Any = XLMRobertaModel(config)  # type: ignore[arg-type]
    runpy.run_path(str(Path(__file__).parents[1] / "parity/tiny.py"))["jitter"](peer, 0)
    peer.save_pretrained(folder)
    random = torch.Generator().manual_seed(0)
    for name, rows in (("sparse_linear.pt", 1), ("colbert_linear.pt", 48)):
        head = {"weight": torch.randn(rows, 64, generator=random), "bias": torch.randn(rows, generator=random)}
        torch.save(head, folder / name)
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, **{f"w{number}": number for number in range(4, 160)}}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.save(str(folder / "tokenizer.json"))
    return peer.eval()


def test_the_three_faces_of_a_text_are_those_of_the_paper(made: tuple[Path, Any]) -> None:
    folder, peer = made
    with HybridEmbedder.load(str(folder), runner="torch") as embedder:
        found = embedder.embed(TEXTS)
    sparse, multi = (torch.load(folder / name) for name in ("sparse_linear.pt", "colbert_linear.pt"))
    for text, ours in zip(TEXTS, found, strict=True):
        ids = [0, *(int(word[1:]) for word in text.split()), 2]
        with torch.no_grad():
            hidden = peer(torch.tensor([ids])).last_hidden_state[0]
        dense = torch.nn.functional.normalize(hidden[0], dim=0)
        assert np.abs(ours.dense - dense.numpy()).max() <= 1e-5
        weights = torch.relu(hidden @ sparse["weight"].T + sparse["bias"])[1:-1, 0]
        expected: dict[int, float] = {}
        for token, weight in zip(ids[1:-1], weights.tolist(), strict=True):
            expected[token] = max(expected.get(token, 0.0), weight)
        assert ours.sparse == pytest.approx(
            {token: weight for token, weight in expected.items() if weight > 0}, abs=1e-4
        )
        vectors = torch.nn.functional.normalize(hidden[1:] @ multi["weight"].T + multi["bias"], dim=1)
        assert ours.multi.shape == (len(ids) - 1, 48) and np.abs(ours.multi - vectors.numpy()).max() <= 1e-5


def test_scores_are_what_both_say_and_a_text_is_most_like_itself(made: tuple[Path, Any]) -> None:
    assert sparse_score({1: 2.0, 5: 1.0}, {1: 0.5, 7: 9.0}) == 1.0
    with HybridEmbedder.load(str(made[0])) as embedder:
        first, _, third = embedder.embed(TEXTS)
    assert multi_score(first.multi, first.multi) == pytest.approx(1, abs=1e-5)
    assert multi_score(first.multi, third.multi) < 1


def test_a_reranker_weighs_all_three_as_published(made: tuple[Path, Any]) -> None:
    from octavo.generate.rerank import Reranker

    with HybridEmbedder.load(str(made[0])) as embedder:
        asked, *found = embedder.embed(["w5 w6 w30", *TEXTS])
    expected = [
        0.4 * float(asked.dense @ each.dense)
        + 0.2 * sparse_score(asked.sparse, each.sparse)
        + 0.4 * multi_score(asked.multi, each.multi)
        for each in found
    ]
    with Reranker.load(str(made[0])) as reranker:
        scores, tokens = reranker.score_counted("w5 w6 w30", TEXTS)
        assert [place.index for place in reranker.rank("w5 w6 w30", TEXTS)] == np.argsort(-scores).tolist()
    assert np.abs(scores - expected).max() <= 1e-5 and tokens == 5 + 6 + 3 + 9


def test_a_folder_without_the_heads_is_refused(made: tuple[Path, Any], tmp_path: Path) -> None:
    for file in made[0].iterdir():
        if file.name != "colbert_linear.pt":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(UnsupportedError, match=r"has no colbert_linear\.pt"):
        HybridEmbedder.load(str(tmp_path))
    torch.save({"weight": torch.ones(3, 5), "bias": torch.ones(3)}, tmp_path / "colbert_linear.pt")
    with pytest.raises(FormatError, match="does not fit states of 64 features"):
        HybridEmbedder.load(str(tmp_path))
