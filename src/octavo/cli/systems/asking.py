"""`octavo rag` and `octavo fid`: answers from the passages that a trained system finds, and how right they are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import arguments as given

if TYPE_CHECKING:
    from octavo.retrieve.systems.answering import Reply

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="The model/ folder of a run.")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="Questions in SQuAD's layout, as the run was given.")]
Count = Annotated[int | None, typer.Option("--count", "-k", metavar="N", min=1, help="Passages to read.")]
Beams = Annotated[int | None, typer.Option("--beams", metavar="N", min=1, max=64, help="Of the search for an answer.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N questions.")]


def _commands(system: str, about: str, shown: str) -> typer.Typer:
    """`ask` and `evaluate` of a system. shown: what each passage comes with."""
    group = typer.Typer(help=about)
    ask_help = f"""Answer a question, and show {shown}.

    Examples:

      octavo {system} ask runs/{system}/model "How long is the context of Falcon?"
    """
    evaluate_help = f"""Score the answers to the held-out questions: exact match, F1, how often the passage was found.

    Examples:

      octavo {system} evaluate runs/{system}/model open-llms.json
    """

    @group.command("ask", help=ask_help)
    def ask(
        model: ModelFolder,
        question: Annotated[str, typer.Argument(metavar="QUESTION")],
        count: Count = None,
        beams: Beams = None,
        as_json: given.AsJson = False,
    ) -> None:
        _ask(system, model, question, count, beams, as_json)

    @group.command("evaluate", help=evaluate_help)
    def evaluate(
        model: ModelFolder,
        data: Data,
        count: Count = None,
        beams: Beams = None,
        limit: Limit = None,
        as_json: given.AsJson = False,
    ) -> None:
        _evaluate(system, model, data, count, beams, limit, as_json)

    return group


def _ask(system: str, model: Path, question: str, count: int | None, beams: int | None, as_json: bool) -> None:
    from octavo.retrieve.systems.answering import open_system

    answering = open_system(model, system, passages=count, beams=beams)
    reply = answering.answer(question)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(reply), ensure_ascii=False))
        return
    typer.echo(reply.text)
    for line in _passages(reply):
        typer.echo(line, err=True)


def _passages(reply: Reply) -> list[str]:
    return [
        f"{read.weight:6.1%}  {read.title}: {' '.join(read.text.split())[:100]}"
        for read in sorted(reply.passages, key=lambda read: -read.weight)
    ]


def _evaluate(
    system: str, model: Path, data: Path, count: int | None, beams: int | None, limit: int | None, as_json: bool
) -> None:
    from octavo.retrieve.systems.answering import evaluate, open_system

    scores: Any = evaluate(open_system(model, system, passages=count, beams=beams), data, limit=limit)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(scores)))
        return
    typer.echo(
        f"{scores.count} questions: exact match {scores.exact:.1f}, F1 {scores.f1:.1f}; the passage that answers is "
        f"among the {scores.passages} read for {scores.recall:.1f} %, and first for {scores.first:.1f} %"
    )


rag = _commands(
    "rag",
    "RAG: answers marginalised over retrieved passages.",
    "how much of it each passage is believed to know",
)
fid = _commands(
    "fid",
    "Fusion-in-Decoder: passages encoded apart, fused in the decoder.",
    "how much each of all the passages read at once was looked at",
)
