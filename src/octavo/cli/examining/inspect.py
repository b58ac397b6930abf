"""`octavo inspect`: attention patterns, induction heads and the logit lens of a model."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli.arguments import AsJson, IgnoreConfigKey, Model
from octavo.cli.tables import print_table

if TYPE_CHECKING:
    from octavo.examine.inspection.findings import Head, Inspection

TEXT = "The capital of France is"


def inspect(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="What to look at, up to 128 tokens.")] = TEXT,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw everything, as .html or .png.")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option("--head", metavar="L.H", help="Show this head's attention too, such as 18.6.")
    ] = None,
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many heads to switch off.", min=1)] = 3,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the random tokens.")] = 0,
    ignore_config_key: IgnoreConfigKey = None,
    as_json: AsJson = False,
) -> None:
    """Look inside a model: induction heads, attention, logit lens.

    On random tokens written twice it finds the heads that copy, and shows
    what the loss becomes without them and without as many others; on TEXT,
    where heads attend to, and what the model would say after each block.
    Needs torch.

    Examples:

      octavo inspect smollm2-135m-instruct "The capital of France is"

      octavo inspect smollm2-135m-instruct "When Mary and John went out" --out inside.html

      octavo inspect smollm2-135m-instruct --head 18.6 --json
    """
    from octavo.errors import MissingDependencyError
    from octavo.examine.inspection.report import report
    from octavo.fetching import sources
    from octavo.figures.page import check_figure_path, save_figure
    from octavo.models.checkpoint import open_checkpoint

    if find_spec("torch") is None:
        raise MissingDependencyError("looking inside a model needs torch; pip install 'octavo[torch]'")
    if out is not None:
        check_figure_path(out)
    heads = [_head(name) for name in head or ()]
    checkpoint = open_checkpoint(sources.resolve(model), ignore_keys=ignore_config_key or ())
    from octavo.examine.inspection.torch_inspect import inspect as look

    found = look(checkpoint, text, heads=heads, count=count, seed=seed)
    if out is not None:
        save_figure(out, f"Inside {found.model}", report(found))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _print(found)


def _head(name: str) -> Head:
    from octavo.errors import OctavoError
    from octavo.examine.inspection.findings import Head

    match = re.fullmatch(r"(\d+)\.(\d+)", name)
    if match is None:
        raise OctavoError(f"--head {name!r} should read LAYER.HEAD, both from 0, such as 18.6")
    return Head(int(match[1]), int(match[2]))


def _print(found: Inspection) -> None:
    from octavo.examine.inspection.report import head_table, lens_table

    scores, ablation = found.scores, found.ablation
    typer.echo("heads on random tokens written twice, by what they attend to")
    table = head_table(scores)
    print_table(table.head, table.rows)
    typer.echo("\nloss on them, nats a token")
    rows = [
        ("first copy", f"{scores.first_copy_loss:.3f}"),
        ("second copy", f"{ablation.whole:.3f}"),
        ("  without " + ", ".join(map(str, ablation.heads)), f"{ablation.without_best:.3f}"),
        *((f"  without {len(ablation.heads)} random others", f"{loss:.3f}") for loss in ablation.without_random),
    ]
    print_table(("", "loss"), rows)
    typer.echo("\nlogit lens: what would come next, after each block")
    table = lens_table(found)
    print_table(table.head, table.rows)
