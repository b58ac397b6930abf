"""RETRO's laws: causal by chunks through the whole model, the base at first, decoding as training, no own document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.errors import FormatError, OctavoError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer
from octavo.retrieve.systems.recipes import RetroRecipe
from octavo.retrieve.systems.retro.database import (
    CHUNK,
    Database,
    Origin,
    build_database,
    cut_documents,
    longest_shared,
)
from octavo.retrieve.systems.retro.torch_retro import (
    Retrieved,
    Retro,
    RetroObjective,
    generate,
    pad_neighbours,
    with_random_neighbours,
)
from octavo.retrieve.systems.retro.torch_training import RetroSystem, report, train_retro, with_neighbours, write
from octavo.text.tokenizer import Tokenizer
from octavo.train.recipe import load_any

STORIES_LAYERS = (1, 3)


def ids(count: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.Generator(np.random.PCG64(seed)).integers(3, 500, count).astype(np.int32)


@pytest.fixture
def base(stories: Path) -> Path:
    return stories


def made(base: Path, *, trained: bool = True) -> Retro:
    """On stories260K. trained: with weights of retrieval that say something."""
    model = Retro(Transformer.from_checkpoint(open_checkpoint(base)), layers=STORIES_LAYERS)
    if trained:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.learnt().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.requires_grad_(False).eval()


def neighbours(chunks: int, seed: int) -> list[list[np.ndarray[Any, Any]]]:
    """Ragged, and a chunk without any."""
    return [[ids(128, seed + at), ids(70, seed + 50 + at)] if at != 1 else [] for at in range(chunks)]


def run(model: Retro, tokens: np.ndarray[Any, Any], found: Sequence[Sequence[Any]]) -> torch.Tensor:
    padded, mask = pad_neighbours([found])
    with torch.no_grad():
        logits: torch.Tensor = model(
            torch.tensor(tokens[None].astype(np.int64)), torch.tensor(padded), torch.tensor(mask)
        )
    return logits[0]


@pytest.mark.parametrize("chunk", [0, 2])
def test_a_chunk_s_neighbours_move_no_logit_before_its_last_token(chunk: int, base: Path) -> None:
    model, tokens = made(base), ids(4 * CHUNK, 1)
    found = neighbours(4, 10)
    other = [list(row) for row in found]
    other[chunk] = [ids(128, 77), ids(128, 78)]
    before, after = run(model, tokens, found), run(model, tokens, other)
    first = CHUNK * chunk + CHUNK - 1
    assert torch.equal(before[:first], after[:first])
    assert (before[first:] - after[first:]).abs().amax(-1).min() > 1e-6
    assert (before[first : first + CHUNK] - after[first : first + CHUNK]).abs().max() > 1e-2


def test_a_retrofit_is_its_base_to_the_bit_at_first(base: Path) -> None:
    tokens = ids(3 * CHUNK, 1)
    plain = Transformer.from_checkpoint(open_checkpoint(base)).requires_grad_(False)
    with torch.no_grad():  # where gradients are recorded, training's own kernels round otherwise
        expected = plain(torch.tensor(tokens[None].astype(np.int64)))[0]
    assert torch.equal(run(made(base, trained=False), tokens, neighbours(3, 5)), expected)
    assert torch.equal(run(made(base), tokens, []), expected), "and always, without neighbours"


def test_decoding_token_by_token_is_the_whole_text_s_forward(base: Path) -> None:
    model = made(base)
    prompt = ids(CHUNK - 3, 2).tolist()
    given: dict[int, Any] = {}

    def find(chunk: Any) -> list[Any]:
        given[len(given)] = chunk.tolist()
        return [ids(128, int(chunk.sum())), ids(90, int(chunk[0]))]

    written = list(generate(model, prompt, find, max_tokens=2 * CHUNK))
    text = np.array([*prompt, *written], np.int32)
    whole = len(text[:-1]) // CHUNK
    assert [given[at] for at in range(whole)] == [text[at * CHUNK : (at + 1) * CHUNK].tolist() for at in range(whole)]
    found = [find(text[at * CHUNK : (at + 1) * CHUNK]) for at in range(whole)]
    logits = run(model, text[:-1], found)
    assert logits[len(prompt) - 1 :].argmax(-1).tolist() == written
    assert run(model, text[:-1], []).argmax(-1).tolist()[len(prompt) - 1 :] != written, "what was found matters"


def test_only_retrieval_learns(base: Path) -> None:
    model = Retro(Transformer.from_checkpoint(open_checkpoint(base)), layers=STORIES_LAYERS)
    learnt = sum(parameter.numel() for parameter in model.learnt().values())
    assert {name.split(".")[0] for name in model.learnt()} == {"encoder", "decoder"}
    assert all("cross" in name for name in model.learnt() if name.startswith("decoder"))
    assert learnt < sum(parameter.numel() for parameter in model.parameters())
    objective = RetroObjective()
    examples = [Retrieved(ids(2 * CHUNK + 1, 4), neighbours(2, 8))]
    with torch.no_grad():
        model.retrieving[0].cross.o.weight.add_(0.1)
        model.retrieving[1].cross.o.weight.add_(0.1)
    objective.loss(model, objective.collate(examples)).backward()
    silent = [name for name, p in model.learnt().items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == [] and all(p.grad is None for name, p in model.named_parameters() if name not in model.learnt())


class Letters:
    """Keys that count a text's letters."""

    def embed(self, texts: Sequence[str]) -> Any:
        return np.array([[text.count(letter) for letter in "abc"] for text in texts], np.float32)


@pytest.fixture
def letters() -> Tokenizer:
    return Tokenizer.train_characters("abcdefgh ")


def database(tokenizer: Tokenizer, *documents: str) -> Database:
    encoded = [np.array(tokenizer.encode(document), np.int32) for document in documents]
    return build_database(encoded, tokenizer, Letters(), "letters")


def test_nearest_chunks_are_of_other_documents_and_go_on(letters: Tokenizer, tmp_path: Path) -> None:
    built = database(letters, "a" * 64 + "b" * 64 + "c" * 10, "a" * 64, "a" * 60 + "b" * 4, "b" * 64)
    assert len(built) == 6 and built.documents.tolist() == [0, 0, 0, 1, 2, 3]
    found = built.nearest(built.keys, 2, built.documents)
    assert found[0].tolist() == [3, 4] and found[1].tolist() == [5, 4]
    assert built.nearest(built.keys[:1], 2, np.array([-1]))[0].tolist() == [0, 3], "unless none is left out"
    assert letters.decode(built.neighbour(0).tolist()) == "a" * 64 + "b" * 64
    assert letters.decode(built.neighbour(2).tolist()) == "c" * 10 and not len(built.neighbour(-1))
    alone = database(letters, "a" * 200)
    assert (alone.nearest(alone.keys, 2, alone.documents) == -1).all()
    built.save(tmp_path / "d.npz")
    again = Database.load(tmp_path / "d.npz")
    assert again.origin == built.origin == Origin("letters", built.origin.tokenizer)
    assert np.array_equal(again.keys, built.keys) and np.array_equal(again.starts, built.starts)
    (tmp_path / "e.npz").write_bytes(b"not a zip")
    with pytest.raises(FormatError, match="no database"):
        Database.load(tmp_path / "e.npz")


def test_exact_search_finds_what_brute_force_does() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    keys = random.normal(size=(300, 8)).astype(np.float32)
    owners = random.integers(0, 20, 300)
    built = Database(np.zeros(300, np.int32), np.arange(301), owners, keys, Origin("x", "y"))
    queries, left_out = random.normal(size=(300, 8)).astype(np.float32), random.integers(-1, 20, 300)
    found = built.nearest(queries, 5, left_out)
    for query, without, row in zip(queries, left_out, found, strict=True):
        distances = np.square(keys - query).sum(1)
        distances[owners == without] = np.inf
        assert row.tolist() == np.argsort(distances, kind="stable")[:5].tolist()


def test_texts_have_the_neighbours_of_their_own_chunks(letters: Tokenizer) -> None:
    documents = ["a" * 64 + "b" * 64 + "c" * 64, "b" * 64, "a" * 70]
    built = database(letters, *documents)
    encoded = [np.array(letters.encode(document), np.int32) for document in documents]
    texts = with_neighbours(encoded, built, built.keys, 1, 2 * CHUNK, own=True)
    assert [len(text.tokens) for text in texts] == [129, 64, 64, 70]
    shown = [[letters.decode(row[0].tolist())[0] for row in text.neighbours] for text in texts]
    assert shown == [["a", "b"], [], [], ["a"]]
    assert sum(len(text.neighbours) for text in with_random_neighbours(texts)) == 3
    starts, owners = cut_documents(encoded)
    assert starts.tolist() == [0, 64, 128, 192, 256, 320, 326] and owners.tolist() == [0, 0, 0, 1, 2, 2]


def test_the_longest_shared_run_is_difflib_s() -> None:
    import difflib

    for seed in range(30):
        first, second = ids(64, seed) % 3, ids(128, seed + 100) % 3
        match = difflib.SequenceMatcher(None, first.tolist(), second.tolist(), autojunk=False).find_longest_match()
        assert longest_shared(first, second) == match.size


RECIPE = """
objective = "retro"
[data]
path = "text.txt"
document_separator = "\\n\\n"
validation_fraction = 0.25
[retro]
decoder = "{decoder}"
encoder = "{encoder}"
layers = [1]
neighbours = 1
[optimizer]
learning_rate = 1e-2
[schedule]
warmup_steps = 2
[training]
steps = 6
batch_size = 2
threads = 1
"""


def test_a_run_leaves_a_folder_that_writes_and_is_measured(tmp_path: Path, base: Path, tiny_encoder: Path) -> None:
    cities = ["Oslo is the capital of Norway.", "Paris is the capital of France.", "Rome is the capital of Italy."]
    documents = [" ".join([city] * 12) for city in cities] + [" ".join([cities[0]] * 11)]
    (tmp_path / "text.txt").write_text("\n\n".join(documents))
    (tmp_path / "retro.toml").write_text(RECIPE.format(decoder=base, encoder=tiny_encoder))
    wanted = load_any(tmp_path / "retro.toml", {"retro": RetroRecipe})
    result = train_retro(wanted, tmp_path / "text.txt", tmp_path / "run")
    assert result.model is not None
    system = RetroSystem.load(result.model)
    plain = Transformer.from_checkpoint(open_checkpoint(base))
    assert torch.equal(system.model.decoder.blocks[0].attention.q.weight, plain.blocks[0].attention.q.weight)
    buckets = report(system.model, system.texts(documents[-1:]))
    assert buckets[-1].targets == sum(bucket.targets for bucket in buckets[:-1])
    assert any(bucket.overlap == 1.0 for bucket in buckets), "Oslo's text is in the database"
    assert buckets[-1].decoder != buckets[-1].retrieved != buckets[-1].random
    told: list[str] = []
    text = "".join(write(system, documents[0], max_tokens=5, told=told.extend))
    assert text and any("Oslo" in neighbour for neighbour in told)
    with pytest.raises(OctavoError, match="another vocabulary"):
        database(Tokenizer.train_characters("abc"), "abc").save(tmp_path / "other.npz")
        RetroSystem.load(result.model, tmp_path / "other.npz")
