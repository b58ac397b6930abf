"""Embeddings: MiniLM against `transformers`, poolings and prompts against the layout's own library, laws of batches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.generate.embed import Embedder, batches, normalized, pool
from octavo.models.formats.sentence_transformers import read_layout

TEXTS = [
    "A cat sat on the mat.", "A feline was sitting on a rug.", "Stocks fell on Monday.", "", "價格 and naïve café",
    "word " * 400, "one", "The quick brown fox jumps over the lazy dog. " * 5,
]  # fmt: skip


@pytest.fixture(scope="module")
def embedder(minilm: Path) -> Iterator[Embedder]:
    with Embedder.load(str(minilm), runner="torch") as loaded:
        yield loaded


def peer_vectors(folder: Path, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """sentence-transformers' recipe for MiniLM over `transformers`: the mean over the mask, then normalised."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    given = tokenizer(list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**given).last_hidden_state
    mask = given.attention_mask[:, :, None].float()
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    result: np.ndarray[Any, Any] = vectors.numpy()
    return result


def cosines(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    result: np.ndarray[Any, Any] = (
        (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    )
    return result


def test_minilm_equals_transformers(embedder: Embedder, minilm: Path) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), 384) and embedder.dimensions == 384
    assert np.abs(vectors - peer_vectors(minilm, TEXTS)).max() <= 1e-5
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_a_text_has_one_vector_whatever_is_beside_it(embedder: Embedder) -> None:
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert np.abs(embedder.embed(TEXTS) - alone).max() <= 1e-6
    assert np.abs(embedder.embed(TEXTS[::-1])[::-1] - alone).max() <= 1e-6
    assert embedder.embed([]).shape == (0, 384)


def test_token_ids_give_the_vector_of_their_text(embedder: Embedder) -> None:
    ids = embedder.tokenizer.encode(TEXTS[0])
    assert np.abs(embedder.embed_tokens([ids]) - embedder.embed(TEXTS[:1])).max() <= 1e-6
    with pytest.raises(OctavoError, match="token id 30522 does not exist"):
        embedder.embed_tokens([[101, 30522]])
    with pytest.raises(OctavoError, match="513 tokens"):
        embedder.embed_tokens([[101] * 513])


def test_unknown_tokens_and_cut_ones_are_counted(embedder: Embedder) -> None:
    assert embedder.unknown_fraction(["plain words"]) == 0
    assert embedder.unknown_fraction(["", "[SEP]"]) == 0
    assert embedder.unknown_fraction(["plain ✈✈ ✈"]) == pytest.approx(2 / 3)
    assert embedder.count_tokens(["one", "word " * 400]) == 3 + 256


@pytest.mark.parametrize("runner", ["torch", "kernels"])
def test_a_decoder_is_read_at_its_last_token(runner: Any, stories: Path) -> None:
    from transformers import AutoModel

    texts = ["Once upon a time", "a", "the dog " * 30]
    with Embedder.load(str(stories), runner=runner) as embedder:
        vectors, ids = embedder.embed(texts), [embedder.tokenizer.encode(text) for text in texts]
    model = AutoModel.from_pretrained(stories).eval()
    with torch.no_grad():
        states = torch.cat([model(torch.tensor([row])).last_hidden_state[:, -1] for row in ids])
    assert np.abs(vectors - torch.nn.functional.normalize(states).numpy()).max() <= 1e-4
    with pytest.raises(UnsupportedError, match="leave int8 out"):
        Embedder.load(str(stories), runner=runner, weights="int8")


def test_prompts_stand_before_their_kind(minilm: Path, tmp_path: Path) -> None:
    folder = with_config(minilm, tmp_path, {"prompts": {"query": "query: ", "document": "passage: "}})
    with Embedder.load(str(folder), runner="torch") as asked:
        assert np.allclose(asked.embed(["a"], kind="query"), asked.embed(["query: a"]))
        assert np.allclose(asked.embed(["a"], kind="passage"), asked.embed(["passage: a"]))
    folder = with_config(minilm, tmp_path, {"prompts": {"all": "text: "}, "default_prompt_name": "all"})
    with Embedder.load(str(folder), runner="torch", prompts={"query": "find: "}) as asked:
        assert asked.prompts == {"query": "find: ", "passage": "text: ", "plain": "text: "}


def test_published_instructions_stand_before_queries_and_passages(minilm: Path) -> None:
    with (
        Embedder.load(str(minilm), runner="torch", instructions="llm-embedder-qa") as told,
        Embedder.load(str(minilm), runner="torch") as plain,
    ):
        for kind, before in (
            ("query", "Represent this query for retrieving relevant documents: "),
            ("passage", "Represent this document for retrieval: "),
            ("plain", ""),
        ):
            assert np.array_equal(told.embed(["a duck"], kind=kind), plain.embed([before + "a duck"]))  # type: ignore[arg-type]
    with pytest.raises(OctavoError, match=r"did you mean 'bge-en'\?"):
        Embedder.load(str(minilm), instructions="bge-ne")


def with_config(minilm: Path, folder: Path, config: dict[str, Any]) -> Path:
    shutil.copytree(minilm, folder, dirs_exist_ok=True)
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({"modules.json": "[]"}, FormatError, "lists no module"),
        ({"modules.json": "{"}, FormatError, "no list of modules"),
        ({"modules.json": '[{"type": "x.Transformer", "path": "../other"}]'}, FormatError, "no folder inside its own"),
        ({"modules.json": '[{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2"}]'},
         UnsupportedError, "has Transformer, Dense"),
        ({"1_Pooling/config.json": '{"pooling_mode_mean_token": true}'}, UnsupportedError,
         "did you mean 'pooling_mode_mean_tokens'"),
        ({"1_Pooling/config.json": '{"pooling_mode": "median"}'}, UnsupportedError, "'median'; known are cls, mean"),
        ({"1_Pooling/config.json": '{"pooling_mode": "mean", "include_prompt": false}'}, UnsupportedError, "include_p"),
        ({"sentence_bert_config.json": '{"max_seq_length": "long"}'}, FormatError, "'long'; it must be"),
    ],
)  # fmt: skip
def test_a_layout_that_is_not_understood_is_refused(
    files: dict[str, str], error: type[Exception], words: str, minilm: Path, tmp_path: Path
) -> None:
    for name in ("modules.json", "1_Pooling/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((minilm / name).read_bytes())
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=words):
        read_layout(tmp_path)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 1000))
def test_batches_hold_each_text_once_and_few_tokens(lengths: list[int], limit: int) -> None:
    made = list(batches(np.array(lengths, np.intp), limit))
    assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= limit for batch in made)


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_poolings_equal_those_of_sentence_transformers(mode: Any) -> None:
    theirs = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    generator = torch.Generator().manual_seed(0)
    lengths = np.array([4, 1, 7], np.intp)
    states, mask = torch.randn(3, 7, 8, generator=generator), torch.zeros(3, 7, dtype=torch.long)
    for index, length in enumerate(lengths):
        mask[index, :length] = 1
    given = {"token_embeddings": states, "attention_mask": mask}
    expected = theirs.Pooling(8, mode)(given)["sentence_embedding"].numpy()
    assert np.abs(pool(states[mask.bool()].numpy(), lengths, [mode]) - expected).max() <= 1e-6


def test_a_zero_vector_stays_one_when_normalised() -> None:
    assert np.array_equal(normalized(np.zeros((1, 4), np.float32)), np.zeros((1, 4), np.float32))
