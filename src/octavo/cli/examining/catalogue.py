"""`octavo models`: families, named and installed models; `octavo models search`: the Open-LLMs table."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.arguments import AsJson
from octavo.cli.tables import gigabytes, print_table, short_number

if TYPE_CHECKING:
    from octavo.examine.catalogue.open_llms import OpenModel

catalogue = typer.Typer(invoke_without_command=True)


@catalogue.callback()
def overview(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the model families, the models known by name, and what is installed.

    Examples:

      octavo models

      octavo models --json

      octavo models search --licence apache-2.0 --max-params 7b --context 8k
    """
    if context.invoked_subcommand is None:
        found = _overview()
        if as_json:
            typer.echo(json.dumps(found))
        else:
            _print_overview(found)


@catalogue.command("search")
def search(
    words: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Words that a row must hold.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="Such as apache-2.0, mit; custom: terms of its own.")
    ] = None,
    min_params: Annotated[str | None, typer.Option("--min-params", metavar="N", help="Such as 350m or 7b.")] = None,
    max_params: Annotated[str | None, typer.Option("--max-params", metavar="N", help="Such as 350m or 7b.")] = None,
    context: Annotated[str | None, typer.Option("--context", metavar="N", help="At least: 2048 or 8k.")] = None,
    as_json: AsJson = False,
) -> None:
    """Search the Open-LLMs table for models that may be used commercially.

    76 models with their dates, sizes, contexts and licences, as of
    2025-02-12; github.com/eugeneyan/open-llms, Apache-2.0.

    Examples:

      octavo models search --licence apache-2.0 --max-params 7b --context 8k

      octavo models search mistral

      octavo models search --licence mit --json
    """
    from octavo.examine.catalogue import open_llms

    sizes = [None if size is None else open_llms.read_count(size) for size in (min_params, max_params)]
    found = open_llms.search(
        " ".join(words or ()),
        licence=licence,
        min_params=sizes[0],
        max_params=sizes[1],
        min_context=None if context is None else open_llms.read_count(context, thousand=1024),
    )
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(model) for model in found]))
    elif not found:
        typer.echo("no model of the table is like that; ask for less", err=True)
    else:
        head = ("model", "released", "parameters", "context", "licence", "address")
        print_table(head, [_searched(model) for model in found])


@catalogue.command("datasets")
def datasets(as_json: AsJson = False) -> None:
    """Show the open data sets for training of the Open-LLMs table.

    Examples:

      octavo models datasets

      octavo models datasets --json
    """
    from octavo.examine.catalogue import open_llms

    tables = [table for table in open_llms.tables() if table.head != open_llms.MODEL_COLUMNS]
    if as_json:
        typer.echo(json.dumps([{"title": table.title, "head": table.head, "rows": table.rows} for table in tables]))
        return
    for table in tables:
        typer.echo(table.title)
        shown = [tuple(open_llms.plain(cell) for cell in row) for row in (table.head, *table.rows)]
        print_table(shown[0], shown[1:])
        typer.echo()


def _overview() -> dict[str, Any]:
    from octavo.examine.catalogue.named import named_models
    from octavo.examine.sizing.cost import count_parameters
    from octavo.examine.sizing.described import describe_named
    from octavo.fetching import sources
    from octavo.models.families import FAMILIES

    families = [
        {"model_type": family.name, "gguf": family.gguf.architecture if family.gguf else None}
        for family in FAMILIES.values()
    ]
    named = [
        {
            "name": name,
            "system": model.system,
            "family": model.config["model_type"],
            "parameters": count_parameters(describe_named(name).config).total,
            "licence": model.licence,
            "reference": model.reference,
        }
        for name, model in named_models().items()
    ]
    installed = [{**dataclasses.asdict(model), "path": str(model.path)} for model in sources.installed()]
    return {"families": families, "named": named, "installed": installed}


def _print_overview(found: dict[str, Any]) -> None:
    typer.echo("families, by model_type; + those that are also read from GGUF files")
    names = [row["model_type"] + ("+" if row["gguf"] else "") for row in found["families"]]
    for start in range(0, len(names), 8):
        typer.echo("  " + " ".join(names[start : start + 8]))
    typer.echo("\nmodels by name, for `octavo fit NAME`; #: the system of the lecture")
    rows = [
        (
            row["name"],
            str(row["system"] or "-"),
            short_number(row["parameters"]),
            row["licence"],
            row["reference"] or "not published",
        )
        for row in found["named"]
    ]
    print_table(("name", "#", "parameters", "licence", "octavo pull"), rows)
    typer.echo("\ninstalled")
    there = [(row["name"], gigabytes(row["size"]), row["licence"] or "-", row["origin"]) for row in found["installed"]]
    if there:
        print_table(("name", "size", "licence", "from"), there)
    else:
        typer.echo("  none; `octavo pull` fetches the default model")


def _searched(model: OpenModel) -> tuple[str, ...]:
    low, high = short_number(model.params_min), short_number(model.params_max)
    return (
        model.name,
        model.released,
        low if low == high else f"{low} to {high}",
        "unbounded" if model.context is None else f"{model.context:,}",
        ", ".join(model.licences),
        model.links[0].partition("#")[0] if model.links else "-",
    )
