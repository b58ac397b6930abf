"""`octavo retro`: databases of chunks, and what a decoder that retrieves from them writes and is worth."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import arguments as given
from octavo.cli.tables import print_table
from octavo.fetching.sources import DEFAULT_ENCODER

if TYPE_CHECKING:
    from octavo.retrieve.systems.retro.torch_training import Bucket

retro = typer.Typer(help="RETRO: a decoder that reads what was retrieved for each chunk of its text.")

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="The model/ folder of a run.")]
TextFile = Annotated[Path, typer.Argument(metavar="TEXT", help="A UTF-8 text file (.gz too).")]
Separator = Annotated[
    str | None, typer.Option("--separator", metavar="TEXT", help=r"What stands between documents, such as '\n\n'.")
]
DatabaseFile = Annotated[
    Path | None, typer.Option("--database", metavar="FILE", help="In place of the one the model was trained with.")
]


@retro.command("build")
def build(
    text: TextFile,
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="Whose vocabulary; a run's model too.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The database, an .npz.")],
    separator: Separator = None,
    encoder: Annotated[str, typer.Option("--encoder", metavar="MODEL", help="What makes the keys.")] = DEFAULT_ENCODER,
) -> None:
    """Cut a text's documents into chunks of 64 tokens, and make a key of each.

    Examples:

      octavo retro build wiki.txt --separator '\\n\\n' -m runs/retro/model --out wiki.npz
    """
    from octavo.fetching.sources import resolve
    from octavo.generate.embed import Embedder
    from octavo.models.checkpoint import open_checkpoint
    from octavo.retrieve.systems.retro.database import build_database
    from octavo.train.run import encode

    base = Path(model) / "base"
    tokenizer = open_checkpoint(base if base.is_dir() else resolve(given.obtain(model))).tokenizer()
    documents = encode(_documents(text, separator), tokenizer, end=False)
    with Embedder.load(given.obtain(encoder)) as loaded:
        database = build_database(documents, tokenizer, loaded, encoder)
    database.save(out)
    typer.echo(f"{out}: {len(database):,} chunks of {len(documents):,} documents")


@retro.command("evaluate")
def evaluate(
    model: ModelFolder,
    text: TextFile,
    separator: Separator = None,
    database: DatabaseFile = None,
    as_json: given.AsJson = False,
) -> None:
    """Print the loss of a text by how much of it stands in its neighbours, beside other neighbours and none.

    Examples:

      octavo retro evaluate runs/retro/model held-out.txt --separator '\\n\\n'
    """
    from octavo.errors import OctavoError
    from octavo.retrieve.systems.retro.torch_training import RetroSystem, report

    system = RetroSystem.load(model, database)
    texts = [example for example in system.texts(_documents(text, separator)) if len(example.tokens) > 1]
    if not texts:
        raise OctavoError(f"{text} holds no two tokens in a row; give a longer text")
    buckets = report(system.model, texts)
    if as_json:
        rows = [{**dataclasses.asdict(b), "overlap": b.overlap if math.isfinite(b.overlap) else None} for b in buckets]
        typer.echo(json.dumps(rows))
        return
    head = ("overlap", "targets", "decoder alone", "retrieved", "others' neighbours")
    print_table(head, [_row(bucket) for bucket in buckets])


@retro.command("generate")
def generate(
    model: ModelFolder,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT")],
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens to write.")] = 128,
    temperature: Annotated[float, typer.Option("--temperature", "-t", min=0, help="0: the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.")] = 0,
    database: DatabaseFile = None,
    show: Annotated[bool, typer.Option("--show", help="Show on stderr what is retrieved.")] = False,
) -> None:
    """Go on with a text; whatever chunk of it is whole has its neighbours retrieved.

    Examples:

      octavo retro generate runs/retro/model "The Normans were" -n 200 --show
    """
    from octavo.retrieve.systems.retro.torch_training import RetroSystem, write

    system = RetroSystem.load(model, database)

    def told(neighbours: list[str]) -> None:
        for neighbour in neighbours if show else ():
            sys.stderr.write(f"octavo: retrieved: {' '.join(neighbour.split())[:110]}\n")

    for piece in write(system, prompt, max_tokens=max_tokens, temperature=temperature, seed=seed, told=told):
        typer.echo(piece, nl=False)
    typer.echo()


def _row(bucket: Bucket) -> tuple[str, ...]:
    name = f"up to {bucket.overlap:.1%}" if math.isfinite(bucket.overlap) else "all"
    losses = (bucket.decoder, bucket.retrieved, bucket.random)
    return (name, f"{bucket.targets:,}", *(f"{loss:.4f}" for loss in losses))


def _documents(path: Path, separator: str | None) -> list[str]:
    """A text's documents; all of them, none held back."""
    from octavo.train.corpus import read_corpus
    from octavo.train.recipe import DataSettings

    between = None if separator is None else separator.encode().decode("unicode_escape")
    data = DataSettings(path=str(path), document_separator=between, validation_fraction=0)
    return list(read_corpus(path, data).training)
