"""`octavo fit`: what models cost and whether they fit here, before anything is fetched."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli.arguments import MODEL_HELP, AsJson, IgnoreConfigKey
from octavo.cli.tables import gigabytes, print_table, short_number

if TYPE_CHECKING:
    from octavo.examine.sizing.fit import Fit
    from octavo.examine.sizing.machine import Machine


def fit(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=f"{MODEL_HELP} Or a config.json.")],
    context: Annotated[
        int | None, typer.Option("--context", metavar="N", help="Positions in use; default: the model's context.")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option("--chart", metavar="FILE", help="Draw the memory wall, as .html or .png.")
    ] = None,
    ignore_config_key: IgnoreConfigKey = None,
    as_json: AsJson = False,
) -> None:
    """Say what models cost and whether they fit this machine.

    From the config alone, so nothing need be fetched: parameters, arithmetic
    and cache per token, memory in each number format, and how many tokens
    per second this machine's memory, measured now, can feed at most.

    crossover: as many sequences at once are limited by float32 arithmetic.

    Examples:

      octavo fit smollm2-135m-instruct

      octavo fit hf:HuggingFaceTB/SmolLM2-1.7B hf:Qwen/Qwen3-8B --context 4096

      octavo fit ./config.json --json

      octavo fit smollm2-135m-instruct hf:Qwen/Qwen3-8B --chart wall.html
    """
    from octavo.examine.sizing.described import describe
    from octavo.examine.sizing.fit import Speeds
    from octavo.examine.sizing.fit import fit as fit_model
    from octavo.examine.sizing.machine import peak_flops, read_bandwidth, this_machine
    from octavo.examine.sizing.wall import wall
    from octavo.figures.page import check_figure_path, save_figure

    if chart is not None:
        check_figure_path(chart)
    described = [describe(model, ignore_keys=ignore_config_key or ()) for model in models]
    machine, speeds = this_machine(), Speeds(read_bandwidth, peak_flops())
    fits = [fit_model(model, machine, speeds, context=context) for model in described]
    if chart is not None:
        save_figure(chart, "The memory wall", wall(fits, machine, speeds))
    if as_json:
        facts = {**dataclasses.asdict(machine), "flops": speeds.flops}
        typer.echo(json.dumps({"machine": facts, "models": [dataclasses.asdict(found) for found in fits]}))
        return
    for found in fits:
        _print_fit(found)
        typer.echo()
    _print_machine(machine, fits, speeds.flops)


def _print_fit(found: Fit) -> None:
    parameters = found.parameters
    active = f", {short_number(parameters.active)} active" if parameters.active != parameters.total else ""
    lines = {
        "name": f"{found.name} ({found.family})",
        "parameters": f"{parameters.total:,} ({short_number(parameters.total)}{active})",
        "context": f"{found.context:,} tokens",
        "arithmetic": f"{short_number(found.flops_per_token)} operations a token at that context, "
        f"{found.arithmetic_tokens_per_second:.3g} tokens/s in float32",
        "cache": f"{found.kv_bytes_per_token:,} bytes a token, {gigabytes(found.kv_bytes)} at that context",
    }
    for name, value in lines.items():
        typer.echo(f"{name:<11} {value}")
    rows = [
        (
            row.format,
            gigabytes(row.weights),
            gigabytes(row.memory),
            _yes_or_no(row.fits_memory),
            _yes_or_no(row.fits_gpu),
            f"{row.tokens_per_second:.3g}",
            "never" if row.crossover is None else str(row.crossover),
        )
        for row in found.formats
    ]
    print_table(("format", "weights", "with cache", "fits memory", "fits GPU", "tokens/s <=", "crossover"), rows)


def _print_machine(machine: Machine, fits: list[Fit], flops: float) -> None:
    speeds = [row.read * row.tokens_per_second for found in fits for row in found.formats]
    free = "unknown" if machine.free_memory is None else gigabytes(machine.free_memory)
    gpus = "; ".join(f"{gpu.name}, {gigabytes(gpu.free)} free" for gpu in machine.gpus) or "none"
    read = f"{min(speeds) / 1e9:.3g} to {max(speeds) / 1e9:.3g} GB/s read"
    typer.echo(f"this machine: {free} free, {machine.threads} threads, {read}, {short_number(flops)} operations/s")
    typer.echo(f"graphics cards: {gpus}")


def _yes_or_no(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"
