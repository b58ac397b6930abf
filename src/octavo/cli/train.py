"""`octavo train RECIPE`: from a text file to a model that runs, resumable at any moment."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    """Train a tokenizer and a model from a text file, or what else a recipe's objective says.

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
    from octavo.cli.systems.objectives import data_of, load, recipes, trained_by, trial_of
    from octavo.train.recipe import load_any
    from octavo.train.report import Report

    given = [f"data.path={json.dumps(str(data.absolute()), ensure_ascii=False)}"] if data else []
    checked = load_any(recipe, recipes(), [*(overrides or []), *given])
    found = data_of(checked, recipe.parent)
    run = load(trained_by(checked).run)  # imports torch, so only once everything else is right
    with Report(checked.training.steps) as report:
        result = run(checked, found, out or Path("runs") / recipe.stem, restart=restart, on_event=report)
    _tell(result, trial=trial_of(checked), as_json=as_json)
    if result.stopped_by:
        raise typer.Exit(128 + result.stopped_by)


def _tell(result: RunResult, *, trial: str, as_json: bool) -> None:
    if as_json:
        fields = dataclasses.asdict(result)
        typer.echo(json.dumps(fields | {"run": str(result.run), "model": result.model and str(result.model)}))
    elif result.model:
        best = f", validation loss {result.validation_loss:.4f}" if result.validation_loss is not None else ""
        typer.echo(f"{result.model}: {result.parameters:,} parameters{best}, {result.seconds:.0f} s")
        typer.echo(f"try: octavo {trial.format(model=result.model)}")
    if result.stopped_by:
        saved = "and saved " if result.step else "before anything was learnt, "
        typer.echo(f"stopped {saved}at step {result.step} of {result.steps}; the same command resumes it", err=True)
