"""`octavo code`: functions found by what they are said to do, and code written with the best one at hand (CodeT5+)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from octavo.cli import arguments as given

code = typer.Typer(help="CodeT5+: code found by a description, judged, and written.")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A CodeT5+ bimodal or embedding model, or a run's model/.")]
Description = Annotated[str, typer.Argument(metavar="TEXT", help="What the code is to do.")]
Folder = Annotated[
    Path | None, typer.Argument(metavar="[FOLDER]", help="Python source; left out: the standard library.")
]
Judge = Annotated[
    bool, typer.Option("--judge/--no-judge", help="Order the nearest by the matching head, or by vectors alone.")
]
DESCRIPTION_AND_CODE = "{text}\n{code}"


@code.command("search")
def search_code(
    model: Model,
    text: Description,
    folder: Folder = None,
    count: Annotated[int, typer.Option("--count", "-k", metavar="N", min=1, help="Functions to show.")] = 5,
    judge: Judge = True,
    as_json: given.AsJson = False,
) -> None:
    """Find the functions that do what a text says.

    Examples:

      octavo code search runs/codet5p/model "remove a directory tree"

      octavo code search runs/codet5p/model "parse a date" src/ -k 3 --json
    """
    from octavo.fetching.sources import resolve
    from octavo.retrieve.systems.code.search import CodeIndex

    index = CodeIndex.load(resolve(given.obtain(model)), folder)
    for found in index.search(text, count, judge=judge):
        if as_json:
            typer.echo(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        else:
            typer.echo(f"{found.score:7.3f}  {found.path}:{found.line}  {found.name}: {found.text[:80]}")


@code.command("write")
def write_code(
    model: Model,
    text: Description,
    folder: Folder = None,
    retrieve: Annotated[
        bool,
        typer.Option("--retrieve/--no-retrieve", help="Give the model the best function found, or the text alone."),
    ] = True,
    beams: Annotated[int, typer.Option("--beams", metavar="N", min=1, max=64, help="Of the search.")] = 1,
    max_tokens: given.MaxTokens = None,
) -> None:
    """Write code that does what a text says, with the best function found beside it.

    Examples:

      octavo code write runs/codet5p/model "remove a directory tree" --beams 4
    """
    from octavo.fetching.sources import resolve
    from octavo.retrieve.systems.code.search import CodeIndex, load_codet5p

    path = resolve(given.obtain(model))
    source = text
    if retrieve:
        index = CodeIndex.load(path, folder)
        loaded = index.model
        best, *_ = index.search(text, 1)
        typer.echo(f"octavo: beside {best.path}:{best.line} {best.name}", err=True)
        source = DESCRIPTION_AND_CODE.format(text=text, code=best.code)
    else:
        loaded = load_codet5p(path)
    from octavo.retrieve.systems.code.torch_codet5p import CODE_TOKENS

    typer.echo(loaded.write(loaded.ids(source, CODE_TOKENS), beams=beams, max_tokens=max_tokens or 128))


@code.command("evaluate")
def evaluate_code(
    model: Model,
    folder: Folder = None,
    held_out: Annotated[
        float, typer.Option("--held-out", min=0, max=1, help="The share of files that training left out; 1: all files.")
    ] = 0.1,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N functions.")
    ] = None,
    judge: Judge = True,
    as_json: given.AsJson = False,
) -> None:
    """Measure how often a function is found by its docstring, among the functions that training left out.

    Examples:

      octavo code evaluate runs/codet5p/model --limit 300
    """
    from octavo.fetching.sources import resolve
    from octavo.retrieve.systems.code.search import evaluate_folder

    scores = evaluate_folder(resolve(given.obtain(model)), folder, held_out=held_out, limit=limit, judge=judge)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(scores)))
        return
    ranked = f"first {scores.first:.1f} %, in 5 {scores.within_5:.1f} %, in 10 {scores.within_10:.1f} %"
    mean = f"mean reciprocal rank {scores.mean_reciprocal_rank:.1f}"
    typer.echo(f"{scores.questions} texts among {scores.candidates} functions: {ranked}, {mean}")
