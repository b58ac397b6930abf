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

rag = typer.Typer(help="RAG: answers marginalised over retrieved passages.")
fid = typer.Typer(help="Fusion-in-Decoder: passages encoded apart, fused in the decoder.")


@rag.command("ask")
def ask_rag(
    model: ModelFolder,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    count: Count = None,
    beams: Beams = None,
    as_json: given.AsJson = False,
) -> None:
    """Answer a question, and show how much of it each passage is believed to know.

    Examples:

      octavo rag ask runs/rag/model "How long is the context of Falcon?"
    """
    _ask("rag", model, question, count, beams, as_json)


@rag.command("evaluate")
def evaluate_rag(
    model: ModelFolder,
    data: Data,
    count: Count = None,
    beams: Beams = None,
    limit: Limit = None,
    as_json: given.AsJson = False,
) -> None:
    """Score the answers to the questions that were held out: exact match, F1, and how often the passage was found.

    Examples:

      octavo rag evaluate runs/rag/model open-llms.json
    """
    _evaluate("rag", model, data, count, beams, limit, as_json)


@fid.command("ask")
def ask_fid(
    model: ModelFolder,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    count: Count = None,
    beams: Beams = None,
    as_json: given.AsJson = False,
) -> None:
    """Answer a question from all passages at once, and show how much each was looked at.

    Examples:

      octavo fid ask runs/fid/model "How long is the context of Falcon?"
    """
    _ask("fid", model, question, count, beams, as_json)


@fid.command("evaluate")
def evaluate_fid(
    model: ModelFolder,
    data: Data,
    count: Count = None,
    beams: Beams = None,
    limit: Limit = None,
    as_json: given.AsJson = False,
) -> None:
    """Score the answers to the questions that were held out: exact match, F1, and how often the passage was found.

    Examples:

      octavo fid evaluate runs/fid/model open-llms.json
    """
    _evaluate("fid", model, data, count, beams, limit, as_json)


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
