"""`octavo bench`: how fast a model runs here, beside what the machine's memory allows."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import arguments as given
from octavo.fetching.sources import DEFAULT_MODEL

if TYPE_CHECKING:
    from octavo.evaluate.speed import Speed
    from octavo.models.checkpoint import Checkpoint
    from octavo.models.runner import Runner


def bench(
    model: given.OptionalModel = DEFAULT_MODEL,
    batch: Annotated[list[int] | None, typer.Option("--batch", metavar="N", help="Sequences at once.")] = None,
    prompt: Annotated[int, typer.Option("--prompt", metavar="N", min=1, help="Tokens of a prompt.")] = 512,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", min=2, help="Tokens of an answer.")] = 64,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="The median of so many.")] = 3,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say which operation runs on which path, and why; measure nothing.")
    ] = False,
    runner: given.Runner = None,
    as_json: given.AsJson = False,
) -> None:
    """Measure a model: tokens a second read and written, and seconds to the first.

    Measured through the engine, as a server's requests go, with random tokens.
    The limit is what decoding could reach if it did nothing but read the stored
    weights once a token, by the memory bandwidth measured here and now.

    Examples:

      octavo bench

      octavo bench ./my-model --batch 1 --batch 4 --prompt 1000 --json

      octavo bench ./my-model --explain
    """
    from octavo.evaluate.speed import measure
    from octavo.generate.local import load
    from octavo.progress import say

    batches = batch or [1, 8]
    with load(given.obtain(model), runner=runner) as loaded:
        if explain:
            _print_paths(loaded.engine.runner, as_json)
            return
        limit = _decode_limit(loaded.checkpoint)
        speeds = []
        for size in batches:
            say(f"measuring {loaded.name} with {size} at once")
            speeds.append(measure(loaded, batch=size, prompt_tokens=prompt, new_tokens=tokens, rounds=rounds))
        found = {"model": loaded.name, "runner": loaded.engine.runner.name, "decode_limit": limit}
    if as_json:
        typer.echo(json.dumps({**found, "speeds": [dataclasses.asdict(speed) for speed in speeds]}))
    else:
        _print(found, speeds)


def _decode_limit(checkpoint: Checkpoint) -> float:
    """Tokens a second at batch 1 if only the memory counted."""
    from octavo.examine.sizing.cost import bytes_read
    from octavo.examine.sizing.machine import read_bandwidth

    read = bytes_read(checkpoint.config, {name: tensor.nbytes for name, tensor in checkpoint.tensors.items()})
    return read_bandwidth(read) / read


def _print_paths(runner: Runner, as_json: bool) -> None:
    """What runs where. Raises OctavoError for a runner that is not the kernels'."""
    from octavo.cli.tables import print_table
    from octavo.errors import OctavoError
    from octavo.examine.kernel_paths import operation_paths
    from octavo.models.compiled import CompiledRunner

    if not isinstance(runner, CompiledRunner):
        raise OctavoError(
            f"this model runs on {runner.name}, where torch chooses the paths; --explain is of the kernels"
        )
    paths = operation_paths(runner)
    if as_json:
        typer.echo(json.dumps({"runner": runner.name, "operations": [dataclasses.asdict(path) for path in paths]}))
    else:
        typer.echo(runner.name)
        print_table(("operation", "path", "why"), [(path.operation, path.path, path.why) for path in paths])


def _print(found: dict[str, Any], speeds: list[Speed]) -> None:
    from octavo.cli.tables import print_table

    typer.echo(f"{found['model']} on {found['runner']}, prompts of {speeds[0].prompt_tokens} tokens")
    head = ("at once", "prefill tokens/s", "decode tokens/s", "first token s", "of the memory's limit")
    rows = [
        (
            str(speed.batch),
            f"{speed.prefill:.1f}",
            f"{speed.decode:.1f}",
            f"{speed.first_token:.3f}",
            f"{speed.decode / found['decode_limit']:.0%} of {found['decode_limit']:.0f}" if speed.batch == 1 else "-",
        )
        for speed in speeds
    ]
    print_table(head, rows)
