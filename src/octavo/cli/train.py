"""`octavo train RECIPE`: from a text file to a model that runs, resumable at any moment."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.arguments import AsJson

if TYPE_CHECKING:
    from octavo.train.run import RunResult

RecipePath = Annotated[
    Path, typer.Argument(help="The recipe, a TOML file; recipes/shakespeare.toml shows every key.", metavar="RECIPE")
]
Data = Annotated[Path | None, typer.Option("--data", metavar="FILE", help="The text, instead of data.path.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one key of the recipe; may be repeated."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="The run's folder.", show_default="runs/<recipe name>")
]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew instead of resuming.")]


def train(
    recipe: RecipePath,
    data: Data = None,
    overrides: Overrides = None,
    out: Out = None,
    restart: Restart = False,
    as_json: AsJson = False,
) -> None:
    """Train a tokenizer and a model from a text file.

    The run's folder keeps checkpoints, metrics.jsonl (the curve) and, at the
    end, model/: an ordinary Hugging Face folder with the weights of the best
    validation. The same command resumes a run that was stopped or killed,
    exactly where it was; Ctrl-C finishes the step, saves and exits 130.

    Examples:

      octavo train recipes/shakespeare.toml

      octavo train recipes/shakespeare-chars.toml --data input.txt --out runs/first

      octavo train recipes/shakespeare.toml --set training.steps=500

      octavo run runs/shakespeare/model "ROMEO:"
    """
    from octavo.train.corpus import find_text
    from octavo.train.recipe import load_any
    from octavo.train.report import Report

    given = [f"data.path={json.dumps(str(data.absolute()), ensure_ascii=False)}"] if data else []
    checked = load_any(recipe, _kinds(), [*(overrides or []), *given])
    found = _folder_of_code(checked) or find_text(checked.data, recipe.parent)
    run = _runner(checked)  # imports torch, so only once everything else is right
    with Report(checked.training.steps) as report:
        result = run(checked, found, out or Path("runs") / recipe.stem, restart=restart, on_event=report)
    _tell(result, as_json=as_json)
    if result.stopped_by:
        raise typer.Exit(128 + result.stopped_by)


def _kinds() -> dict[str, Any]:
    """Recipes by their objective."""
    from octavo.retrieve.systems.recipes import CodeRecipe, FidRecipe, RagRecipe, RetroRecipe
    from octavo.train.recipe import CAUSAL_LM, Recipe

    return {CAUSAL_LM: Recipe, "rag": RagRecipe, "fid": FidRecipe, "retro": RetroRecipe, "codet5p": CodeRecipe}


def _folder_of_code(recipe: Any) -> Path | None:
    """What CodeT5+ is trained on, which is a folder and not a file."""
    from octavo.errors import OctavoError
    from octavo.retrieve.systems.code_corpus import standard_library
    from octavo.retrieve.systems.recipes import CodeRecipe

    if not isinstance(recipe, CodeRecipe):
        return None
    folder = standard_library() if recipe.data.path is None else Path(recipe.data.path).expanduser()
    if not folder.is_dir():
        raise OctavoError(f"there is no folder {folder}; give one of Python source", param="data.path")
    return folder


def _runner(recipe: Any) -> Callable[..., RunResult]:
    """What trains by a recipe."""
    from octavo.train import train_recipe
    from octavo.train.recipe import Recipe

    if isinstance(recipe, Recipe):
        return train_recipe
    from octavo.retrieve.systems.recipes import CodeRecipe, FidRecipe, RetroRecipe

    if isinstance(recipe, CodeRecipe):
        from octavo.retrieve.systems.torch_codet5p_training import train_codet5p

        return train_codet5p
    if isinstance(recipe, RetroRecipe):
        from octavo.retrieve.systems.torch_retro_training import train_retro

        return train_retro
    from octavo.retrieve.systems.torch_training import train_fid, train_rag

    return train_fid if isinstance(recipe, FidRecipe) else train_rag


def _tell(result: RunResult, *, as_json: bool) -> None:
    if as_json:
        fields = dataclasses.asdict(result)
        typer.echo(json.dumps(fields | {"run": str(result.run), "model": result.model and str(result.model)}))
    elif result.model:
        best = f", validation loss {result.validation_loss:.4f}" if result.validation_loss is not None else ""
        typer.echo(f"{result.model}: {result.parameters:,} parameters{best}, {result.seconds:.0f} s")
        typer.echo(f"try: octavo run {result.model} PROMPT")
    if result.stopped_by:
        saved = "and saved " if result.step else "before anything was learnt, "
        typer.echo(f"stopped {saved}at step {result.step} of {result.steps}; the same command resumes it", err=True)
