"""A reader's run on tiny files: it learns them, a resumed run is bit-equal, and its model is read on the kernels."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.errors import OctavoError, UnknownNameError
from octavo.generate.tasks.reading import Reader
from octavo.models.checkpoint import open_checkpoint
from octavo.train.metrics import Event, Noted
from octavo.train.reading.recipe import EXTRACTIVE_QA, ReaderRecipe
from octavo.train.reading.run import train_reader
from octavo.train.recipe import load_any
from octavo.train.run import RunResult
from octavo.train.snapshots import read

RECIPES = Path(__file__).parents[3] / "recipes"
PLACES = ["rome", "oslo", "cairo", "lima", "delhi", "kyoto"]
THINGS = ["a red lamp", "an old ship", "seven dogs", "the long song", "green tea", "首都"]
SECTIONS = ("data", "model", "windows", "mixture", "distillation")
RECIPE = """
objective = "extractive_qa"
[data]
path = "."
files = ["some.json"]
held_out = ["held"]
[model]
init = "encoder"
train_embeddings = true
new_characters = 1
matches = true
weights = "int8"
[windows]
max_tokens = 64
overlap = 8
[optimizer]
learning_rate = 1e-2
[schedule]
warmup_steps = 5
[training]
steps = 160
batch_size = 12
validate_every = 160
checkpoint_every = 20
log_every = 20
seed = 4
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe beside its files and a tiny encoder whose vocabulary lacks the Chinese characters."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("reading")
    words = re.findall(r"[a-z]+|[.?]", " ".join((*PLACES, *THINGS, "in what is there . ?")))
    vocabulary = [*("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), *dict.fromkeys(words)]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(1)
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=96, **sizes)
    BertModel(config).save_pretrained(folder / "encoder")
    (folder / "encoder/vocab.txt").write_text("\n".join(vocabulary))
    (folder / "some.json").write_text(json.dumps({"data": [article("train"), article("held")]}))
    (folder / "reader.toml").write_text(RECIPE)
    return folder / "reader.toml"


def article(title: str) -> dict[str, Any]:
    """Each question asks what is in a place; the unanswerable ones ask of a place that is not in the text."""
    context = " ".join(f"In {place} there is {thing}." for place, thing in zip(PLACES[:5], THINGS[1:], strict=True))
    asked = [
        {
            "id": f"{title}-{place}",
            "question": f"What is in {place}?",
            "answers": [{"text": thing, "answer_start": context.index(thing)}],
        }
        for place, thing in zip(PLACES[:5], THINGS[1:], strict=True)
    ]
    asked.append({"id": f"{title}-none", "question": "What is in kyoto?", "answers": [], "is_impossible": True})
    return {"title": title, "paragraphs": [{"context": context, "qas": asked}]}


def run(recipe: Path, folder: Path, *overrides: str, **options: Any) -> RunResult:
    encoder = f"model.init={recipe.parent / 'encoder'}"
    return train_reader(load(recipe, [encoder, *overrides]), recipe.parent, folder, **options)


def load(recipe: Path, overrides: list[str]) -> ReaderRecipe:
    return load_any(recipe, {EXTRACTIVE_QA: ReaderRecipe}, overrides)


def test_a_run_learns_its_questions_and_leaves_a_reader(recipe: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    result = run(recipe, tmp_path / "run", on_event=events.append)
    assert result.model is not None
    told = [event.text for event in events if isinstance(event, Noted)]
    assert any("on the held-out articles: F1 100.00" in text for text in told), told
    context = article("held")["paragraphs"][0]["context"]
    with Reader.load(result.model, weights="int8") as reader:
        found = reader.answer("What is in lima?", ["Nothing is here.", context])
        lacking = reader.answer("What is in kyoto?", [context])
        chinese = reader.answer("What is in delhi?", [context])
    assert (found.text, found.passage, found.answered) == (
        "the long song"[:0] + context[found.start : found.end],
        1,
        True,
    )
    assert found.text == THINGS[4] and chinese.text == THINGS[5] and not lacking.answered
    assert "首" in open_checkpoint(result.model).tokenizer().backend.get_vocab()
    again = run(recipe, tmp_path / "run")
    assert again.resumed_from == 160 and again.model == result.model


def test_a_resumed_run_is_bit_equal(recipe: Path, tmp_path: Path) -> None:
    # What a window hides, which questions are made and in which order they come is the same again.
    mixture = ("mixture.hidden=0.1", "mixture.edited=0.5", "mixture.clozes=5")
    run(recipe, tmp_path / "whole", "training.steps=30", *mixture)
    run(recipe, tmp_path / "cut", "training.steps=30", *mixture)
    (tmp_path / "cut/checkpoints/step-00000030.npz").unlink()
    shutil.rmtree(tmp_path / "cut/model")
    (tmp_path / "cut/checkpoints/best.npz").unlink()
    result = run(recipe, tmp_path / "cut", "training.steps=30", *mixture)
    assert result.resumed_from == 20
    one, other = (read(tmp_path / name / "checkpoints/step-00000030.npz").arrays for name in ("whole", "cut"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_known_embeddings_stay_and_new_characters_are_learnt(recipe: Path, tmp_path: Path) -> None:
    result = run(recipe, tmp_path / "run", "training.steps=3", "model.train_embeddings=false", "model.weights=f32")
    assert result.model is not None
    before, after = (
        open_checkpoint(path).tensors["embed_tokens.weight"] for path in (recipe.parent / "encoder", result.model)
    )
    assert after.shape[0] > before.shape[0]
    assert np.array_equal(after.dequantize()[: before.shape[0]], before.dequantize())


def test_a_reader_learns_from_teachers_alone_and_a_resumed_run_is_bit_equal(recipe: Path, tmp_path: Path) -> None:
    teacher = run(recipe, tmp_path / "teacher", "model.weights=f32").model
    taught = (f'distillation.teachers=["{teacher}"]', "data.held_out=[]", "training.validate_every=999")
    result = run(recipe, tmp_path / "whole", *taught)
    assert result.model is not None
    context = article("held")["paragraphs"][0]["context"]
    with Reader.load(result.model, weights="int8") as reader:
        assert reader.answer("What is in lima?", [context]).text == THINGS[4]
        assert reader.answer("What is in delhi?", [context]).text == THINGS[5]
    run(recipe, tmp_path / "cut", *taught)
    shutil.rmtree(tmp_path / "cut/model")
    (tmp_path / "cut/checkpoints/step-00000160.npz").unlink()
    assert run(recipe, tmp_path / "cut", *taught).resumed_from == 140
    one, other = (read(tmp_path / name / "checkpoints/step-00000160.npz").arrays for name in ("whole", "cut"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_teacher_that_reads_other_tokens_is_refused(recipe: Path, tmp_path: Path) -> None:
    teacher = run(recipe, tmp_path / "teacher", "training.steps=1", "model.new_characters=0").model
    with pytest.raises(OctavoError, match="reads other tokens than the reader to be trained"):
        run(recipe, tmp_path / "run", f'distillation.teachers=["{teacher}"]')
    with pytest.raises(OctavoError, match="1 teachers do not judge 2 parts alike"):
        run(
            recipe, tmp_path / "parts", f'distillation.teachers=["{teacher}"]', "data.parts=2", "model.new_characters=0"
        )
    with pytest.raises(OctavoError, match="does not mark answers"):
        run(recipe, tmp_path / "other", f'distillation.teachers=["{recipe.parent / "encoder"}"]')


def test_a_recipe_says_what_is_wrong_with_it(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown key 'mixture.clozs', did you mean 'clozes'"):
        load(recipe, ["mixture.clozs=3"])
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("extractive_qa", "extractive"))
    with pytest.raises(UnknownNameError, match="did you mean 'extractive_qa'"):
        load(other, [])
    with pytest.raises(OctavoError, match=r"windows.max_tokens 200 is over the encoder's 96 positions"):
        run(recipe, tmp_path / "run", "windows.max_tokens=200")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("reader*.toml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_hold_the_same_articles_out(path: Path) -> None:
    assert load(path, []).data.held_out == ("Oxygen", "Southern_California")


def test_the_documented_recipe_shows_every_key_of_its_own_with_its_true_default() -> None:
    section, shown = "", set()
    for line in (RECIPES / "reader.toml").read_text(encoding="utf-8").splitlines():
        plain = line.removeprefix("# ")
        name = plain.split(" =")[0]
        if plain.startswith("["):
            section = plain.strip("[]")
        elif "=" in plain and name.isidentifier() and section in SECTIONS:
            shown.add((section, name))
            if "# default " in plain:
                field = ReaderRecipe.model_fields[section].annotation.model_fields[name]  # type: ignore[union-attr]
                default = tomllib.loads(f"v = {plain.split('# default ')[1]}")["v"]
                assert json.loads(json.dumps(field.default)) == default, name
    sections = {name: ReaderRecipe.model_fields[name].annotation for name in SECTIONS}
    assert shown == {(section, name) for section, kind in sections.items() for name in kind.model_fields}  # type: ignore[union-attr]
