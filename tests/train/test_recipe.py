"""A recipe's mistakes are answered by key, value and remedy, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import FormatError, OctavoError, UnknownNameError
from octavo.train.recipe import AdapterSettings, Recipe, load_recipe
from octavo.train.recipe_errors import known_keys

RECIPES = Path(__file__).parents[2] / "recipes"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[optimizer]\nlearing_rate = 1e-3", ["unknown key 'optimizer.learing_rate'", "did you mean 'learning_rate'?"]),
        ("[training]\nlearning_rte = 1e-3", ["'training.learning_rte'", "did you mean 'optimizer.learning_rate'?"]),
        ("[trainning]\nsteps = 3", ["'trainning'", "did you mean 'training'?"]),
        ("steps = 3", ["'steps'", "did you mean 'training.steps'?"]),
        ("[training]\nzzzzzzzz = 3", ["'training.zzzzzzzz'", "[training] knows steps, batch_size"]),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path, text: str, parts: list[str]) -> None:
    # A top-level key must stand before the first section.
    path = write(tmp_path, f"{text}\n[data]\npath = 'x'")
    with pytest.raises(UnknownNameError) as caught:
        load_recipe(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("training.steps='many'", ["training.steps is 'many'", "must be a valid integer"]),
        ("training.steps=10.5", ["training.steps is 10.5", "must be a valid integer"]),
        ("training.steps=0", ["training.steps is 0", "greater than or equal to 1"]),
        ("training.steps=true", ["training.steps is True", "must be a valid integer"]),
        ("optimizer.learning_rate=nan", ["optimizer.learning_rate is nan", "finite"]),
        ("optimizer.betas=[0.9]", ["optimizer.betas"]),
        ("optimizer.betas=[0.9, 1.5]", ["optimizer.betas.1 is 1.5", "less than 1"]),
        ("schedule.kind=cosin", ["schedule.kind is 'cosin'", "'cosine', 'linear' or 'constant'"]),
        ("schedule.warmup_steps=-1", ["schedule.warmup_steps is -1", "greater than or equal to 0"]),
        ("model.num_heads=3", ["[model]", "hidden_size 128 over num_heads 3"]),
        ("model.num_kv_heads=3", ["[model]", "num_kv_heads 3 must divide num_heads 4"]),
        ("training.accumulation=17", ["accumulation 17 is more than batch_size 16"]),
        ("tokenizer={kind='characters', vocab_size=300}", ["section.key"]),
        ("data.validation_fraction=1.0", ["data.validation_fraction is 1.0", "less than 1"]),
        ("adapter.rank=4", ["[adapter] needs a model to adapt: give model.init"]),
        ("adapter.rnk=4", ["unknown key 'adapter.rnk', did you mean 'rank'?"]),
        ("steps=3", ["section.key=value"]),
        ("training.steps", ["section.key=value"]),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(
    tmp_path: Path, override: str, parts: list[str]
) -> None:
    path = write(tmp_path, "[data]\npath = 'x'")
    with pytest.raises(OctavoError) as caught:
        load_recipe(path, [override])
    for part in parts:
        assert part in str(caught.value)


def test_a_size_for_a_character_tokenizer_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "[data]\npath = 'x'\n[tokenizer]\nkind = 'characters'\nvocab_size = 300")
    with pytest.raises(OctavoError, match=r"\[tokenizer\] vocab_size is for kind = 'bpe'"):
        load_recipe(path)


def test_what_a_model_brings_along_is_not_asked_for_again(tmp_path: Path) -> None:
    begun = "[data]\npath = 'x'\n[model]\ninit = 'smollm2'\ncontext_length = 64\n"
    assert load_recipe(write(tmp_path, begun + "[adapter]\ntargets = ['q_proj']")).adapter == AdapterSettings(
        targets=("q_proj",)
    )
    with pytest.raises(OctavoError, match=r"\[model\] num_layers is that of init, smollm2: remove it"):
        load_recipe(write(tmp_path, begun + "num_layers = 4"))
    with pytest.raises(OctavoError, match=r"\[tokenizer\] is that of model.init, smollm2: remove the section"):
        load_recipe(write(tmp_path, begun + "[tokenizer]\nkind = 'bpe'"))


def test_a_missing_path_a_section_of_the_wrong_kind_and_broken_toml_are_each_told(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match="data is missing"):
        load_recipe(write(tmp_path, ""))
    with pytest.raises(OctavoError, match=r"data\.path is missing"):
        load_recipe(write(tmp_path, "[data]"))
    with pytest.raises(OctavoError, match="model is 3; it must be a section"):
        load_recipe(write(tmp_path, "model = 3\n[data]\npath = 'x'"))
    with pytest.raises(FormatError, match="not TOML"):
        load_recipe(write(tmp_path, "[data\npath"))
    with pytest.raises(OctavoError, match=r"no recipe at .*recip\.toml, did you mean '.*recipe\.toml'"):
        load_recipe(tmp_path / "recip.toml")


def test_overrides_are_toml_or_bare_words_and_stand_above_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[data]\npath = 'x'\n[training]\nsteps = 7\n[schedule]\nwarmup_steps = 2")
    recipe = load_recipe(path, ["training.steps=9", "data.path=some/file.txt", "optimizer.betas=[0.5, 0.6]"])
    assert (recipe.training.steps, recipe.data.path, recipe.optimizer.betas) == (9, "some/file.txt", (0.5, 0.6))


DOCUMENTED = [RECIPES / "shakespeare.toml", RECIPES / "lora.toml"]


@pytest.mark.parametrize("path", [*DOCUMENTED, RECIPES / "shakespeare-chars.toml"], ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    assert load_recipe(path).training.steps == written["training"]["steps"]


def test_the_documented_recipes_show_every_key_with_its_true_default() -> None:
    lines = [line for path in DOCUMENTED for line in path.read_text(encoding="utf-8").splitlines()]
    sections = {"adapter": AdapterSettings}
    shown: dict[str, set[str]] = {}
    for line in lines:
        plain = line.removeprefix("# ")
        if plain.startswith("["):
            section = plain.strip("[]")
        elif "=" in plain and plain.split(" =")[0].isidentifier():
            shown.setdefault(section, set()).add(plain.split(" =")[0])
            if "default " in plain:
                name = plain.split(" =")[0]
                default = tomllib.loads(f"v = {plain.split('default ')[1].split(';')[0]}")["v"]
                kind: Any = sections.get(section, Recipe.model_fields[section].annotation)
                field = kind.model_fields[name]
                assert json.loads(json.dumps(field.default)) == default, name
    assert shown == {section: set(keys) for section, keys in known_keys(Recipe).items()}


def test_reading_a_recipe_and_finding_its_text_import_no_torch() -> None:
    code = (
        "import sys, octavo.train, octavo.train.recipe, octavo.train.corpus, octavo.train.report, "
        "octavo.train.run_folder, octavo.train.data, octavo.train.schedule, octavo.train.snapshots, octavo.cli.train\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_torch_training_says_what_to_install() -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom octavo.errors import MissingDependencyError\n"
        "try:\n    from octavo.train import train_recipe\n"
        "except MissingDependencyError as error:\n    assert \"pip install 'octavo[train]'\" in str(error)\n"
        "else:\n    raise SystemExit('imported')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
