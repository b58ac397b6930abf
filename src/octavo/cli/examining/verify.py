"""`octavo verify`: self-checks of a model on this machine."""

from __future__ import annotations

import dataclasses
import json

import typer

from octavo.cli.arguments import AsJson, IgnoreConfigKey, OptionalModel, Runner
from octavo.fetching.sources import DEFAULT_MODEL


def verify(
    model: OptionalModel = DEFAULT_MODEL,
    runner: Runner = None,
    ignore_config_key: IgnoreConfigKey = None,
    as_json: AsJson = False,
) -> None:
    """Check that a model computes here what it must.

    One text is run at once and token by token, from the cache and anew,
    alone and beside another, on the kernels and in torch, and must give the
    same log-probabilities; the tokenizer must give back what it read.
    Exits 2 when a check fails.

    Examples:

      octavo verify smollm2-135m-instruct

      octavo verify ./runs/shakespeare/model --runner torch

      octavo verify smollm2-135m-instruct --json
    """
    from octavo.errors import OctavoError
    from octavo.examine.verify import verify as run_checks
    from octavo.fetching import sources
    from octavo.models.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(sources.resolve(model), ignore_keys=ignore_config_key or ())
    failed = total = 0
    found = []
    for check in run_checks(checkpoint, runner=runner):
        total += check.passed is not None
        failed += check.passed is False
        found.append(dataclasses.asdict(check))
        if not as_json:
            verdict = {True: "ok", False: "FAILED", None: "-"}[check.passed]
            typer.echo(f"{verdict:<7} {check.name:<42} {check.figure}  (bound: {check.bound}; {check.seconds:.1f} s)")
    if as_json:
        typer.echo(json.dumps({"model": checkpoint.name, "failed": failed, "checks": found}))
    if failed:
        raise OctavoError(f"{failed} of {total} checks failed on {model}; the model file, or Octavo, is at fault")
