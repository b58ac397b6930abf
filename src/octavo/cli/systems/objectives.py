"""What `octavo train` can train: for each `objective`, the recipe's class and what runs it, imported when needed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEMS, SEQ2SEQ = "octavo.retrieve.systems", "octavo.train.seq2seq"


@dataclass(frozen=True)
class Trained:
    """recipe, run: places, each MODULE:NAME; the recipe's imports no torch. trial: the command that tries the model."""

    recipe: str
    run: str
    trial: str = "run {model} PROMPT"


OBJECTIVES = {
    "causal_lm": Trained("octavo.train.recipe:Recipe", "octavo.train.run:train_recipe"),
    "extractive_qa": Trained(
        "octavo.train.reading.recipe:ReaderRecipe",
        "octavo.train.reading.run:train_reader",
        "ask FOLDER QUESTION --reader {model}",
    ),
    "ckip": Trained(
        "octavo.train.tagging.recipe:CkipRecipe",
        "octavo.train.tagging.run:train_ckip",
        "ckip TASK FILE --model {model}",
    ),
    "span_corruption": Trained(f"{SEQ2SEQ}.recipe:SpanRecipe", f"{SEQ2SEQ}.run:train_span_corruption"),
    "text_to_text": Trained(f"{SEQ2SEQ}.recipe:PairRecipe", f"{SEQ2SEQ}.run:train_text_to_text"),
    "rag": Trained(f"{SYSTEMS}.recipes:RagRecipe", f"{SYSTEMS}.torch_training:train_rag", "rag ask {model} QUESTION"),
    "fid": Trained(f"{SYSTEMS}.recipes:FidRecipe", f"{SYSTEMS}.torch_training:train_fid", "fid ask {model} QUESTION"),
    "retro": Trained(
        f"{SYSTEMS}.recipes:RetroRecipe",
        f"{SYSTEMS}.torch_retro_training:train_retro",
        "retro generate {model} PROMPT",
    ),
    "codet5p": Trained(
        f"{SYSTEMS}.recipes:CodeRecipe",
        f"{SYSTEMS}.torch_codet5p_training:train_codet5p",
        "code search {model} TEXT",
    ),
}


def recipes() -> dict[str, Any]:
    """Recipes' classes by their objective."""
    return {name: load(trained.recipe) for name, trained in OBJECTIVES.items()}


def trained_by(recipe: Any) -> Trained:
    """The row of a recipe."""
    (row,) = (trained for trained in OBJECTIVES.values() if load(trained.recipe) is type(recipe))
    return row


def trial_of(recipe: Any) -> str:
    """The command that tries what a recipe made, `{model}` standing for that."""
    if getattr(recipe, "adapter", None) is not None:
        return f"run {recipe.model.init} PROMPT --lora {{model}}"
    return trained_by(recipe).trial


def load(place: str) -> Any:
    """What a row names. Raises MissingDependencyError without torch, where it needs that."""
    from octavo.errors import MissingDependencyError

    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingDependencyError("training needs torch: pip install 'octavo[train]'") from error


def data_of(recipe: Any, recipe_folder: Path) -> Path:
    """The file that a recipe names, or the folder of questions or code. Raises OctavoError where there is none."""
    from octavo.errors import OctavoError
    from octavo.retrieve.systems.code.corpus import standard_library
    from octavo.retrieve.systems.recipes import CodeRecipe
    from octavo.train.corpus import find_text
    from octavo.train.reading.questions import find_files
    from octavo.train.reading.recipe import ReaderRecipe
    from octavo.train.tagging.recipe import CkipRecipe
    from octavo.train.tagging.sentences import find_annotated

    if isinstance(recipe, ReaderRecipe):
        return find_files(recipe.data, recipe_folder)
    if isinstance(recipe, CkipRecipe):
        return find_annotated(recipe.data, recipe_folder)
    if not isinstance(recipe, CodeRecipe):
        return find_text(recipe.data, recipe_folder)
    folder = standard_library() if recipe.data.path is None else Path(recipe.data.path).expanduser()
    if not folder.is_dir():
        raise OctavoError(f"there is no folder {folder}; give one of Python source", param="data.path")
    return folder
