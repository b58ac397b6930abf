"""`octavo guard`: whether what somebody says, or a model answers, is safe by a guard model's own categories."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from octavo.cli import arguments as given


def guard(
    model: given.Model,
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="None: a line of stdin each.")] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", "-a", metavar="TEXT", help="Judge this answer to the one text.")
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", metavar="X", min=0, max=1, help="Unsafe from this score on.")
    ] = 0.5,
    runner: given.Runner = None,
    quantize: given.Quantize = None,
    as_json: given.AsJson = False,
) -> None:
    """Judge texts by a Llama Guard: safe, or unsafe and which categories.

    The model's own chat template asks. The score is the probability of unsafe.
    What is no verdict counts as unsafe.

    Examples:

      octavo guard ./Llama-Guard-3-1B "How do I pick a lock?"

      octavo guard ./Llama-Guard-3-1B "How do I pick a lock?" --answer "With a tension wrench ..."

      octavo guard ./Llama-Guard-3-1B --json < prompts.txt
    """
    from octavo.errors import OctavoError
    from octavo.generate.local import load
    from octavo.guard.llama_guard import judge

    lines = texts or [line.rstrip("\n") for line in ([] if sys.stdin.isatty() else sys.stdin) if line.strip()]
    if not lines or (answer is not None and len(lines) != 1):
        raise OctavoError("give a text to judge, and with --answer just one")
    with load(given.obtain(model), runner=runner, quantize=quantize) as loaded:
        for line in lines:
            said = [{"role": "user", "content": line}]
            said += [] if answer is None else [{"role": "assistant", "content": answer}]
            verdict = judge(loaded, said, threshold=threshold)
            word = "unsafe" if verdict.flagged else "safe"
            if as_json:
                codes = [{"code": code, "name": verdict.names.get(code)} for code in verdict.codes]
                row = {"text": line, "verdict": word, "score": verdict.score, "categories": codes}
                typer.echo(json.dumps({**row, "understood": verdict.understood}, ensure_ascii=False))
                continue
            why = ", ".join(f"{code} {verdict.names.get(code, '')}".strip() for code in verdict.codes)
            why = why if verdict.understood else f"no verdict: {' '.join(verdict.text.split())[:40]!r}"
            typer.echo(f"{word:6}  {verdict.score:.3f}  {line[:60]}" + (f"  ({why})" if why else ""))
