"""`octavo index | search | ask`: a folder of documents, found and quoted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from octavo.cli import arguments as given
from octavo.cli.terminal import say, tell
from octavo.fetching.sources import DEFAULT_MODEL

if TYPE_CHECKING:
    from octavo.generate.lm import LanguageModel
    from octavo.retrieve.grounded import GroundedAnswer
    from octavo.retrieve.indexing import Report
    from octavo.retrieve.library import Library
    from octavo.retrieve.reader import Reader
    from octavo.retrieve.stores.store import Hit, Place, Vectors

NEAREST, SHOWN = 3, 300
"""Passages that are shown where there is no answer, and characters of each."""
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The documents: a folder with all below it.")]
Index = Annotated[
    str | None, typer.Option("--index", metavar="PLACE", help="A file or a postgresql:// address for the index.")
]
StoreKind = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="KIND", help="sqlite (default), chroma, qdrant, lance, or a postgresql:// address."
    ),
]
Exact = Annotated[bool, typer.Option("--exact", help="Compare every vector, however many there are.")]
Encoder = Annotated[
    str | None, typer.Option("--encoder", metavar="MODEL", help="Finds by meaning; none: by words alone.")
]
ReaderModel = Annotated[
    str | None, typer.Option("--reader", metavar="MODEL", help="Marks the answer; none: the chat model alone.")
]
Instructions = Annotated[
    str | None, typer.Option("--instructions", metavar="SET", help="What the encoder reads first: bge-en, e5, …")
]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="Index anew, with the options given now.")]
Chunk = Annotated[int | None, typer.Option("--chunk", metavar="N", help="Characters of a passage; default 1000.")]
Overlap = Annotated[int | None, typer.Option("--overlap", metavar="N", help="Characters it shares with the next; 100.")]
Count = Annotated[int, typer.Option("--passages", "-k", metavar="N", help="How many passages.")]
Mode = Annotated[
    Literal["hybrid", "rrf", "words", "vectors"] | None,
    typer.Option("--mode", help="How to search; default: both ways where there is an encoder."),
]
Where = Annotated[
    list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="Only such documents: type=pdf, year>=2020.")
]


def index(
    folder: Folder,
    encoder: Encoder = None,
    instructions: Instructions = None,
    rebuild: Rebuild = False,
    chunk: Chunk = None,
    overlap: Overlap = None,
    index: Index = None,
    store: StoreKind = None,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="FILE", help="Then copy the index to FILE.")
    ] = None,
    as_json: given.AsJson = False,
) -> None:
    """Index a folder of documents: the first time all of it, then what changed.

    A file that cannot be read is named on stderr, and the rest is indexed. The
    index lies in the cache folder; nothing is written among the documents.

    Examples:

      octavo index docs/

      octavo index papers/ --chunk 800 --overlap 80 --rebuild

      octavo index papers/ --encoder ./bge-small-en-v1.5 --instructions bge-en

      octavo index papers/ --encoder none --snapshot papers.sqlite3
    """
    with _library(folder, given.told(encoder, instructions), rebuild, index, store) as library:
        report = _update(library, chunk, overlap)
        if snapshot is not None:
            _copy(library, Path(snapshot))
        if as_json:
            typer.echo(json.dumps(_described(library, report), ensure_ascii=False))
        else:
            typer.echo(_summary(library, report))


def search(
    folder: Folder,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to find, in plain words.")],
    count: Count = 5,
    mode: Mode = None,
    where: Where = None,
    hyde: Annotated[
        str | None, typer.Option("--hyde", metavar="MODEL", help="Search with answers that this model makes up.")
    ] = None,
    encoder: Encoder = None,
    rebuild: Rebuild = False,
    index: Index = None,
    store: StoreKind = None,
    exact: Exact = False,
    as_json: given.AsJson = False,
) -> None:
    """Find the passages of a folder that fit a question best, after indexing what changed.

    Every word counts and none is an operator; rarer words count more.

    Examples:

      octavo search docs/ "how is a model pulled"

      octavo search papers/ "late interaction" --where type=pdf -k 3 --json
    """
    from octavo.retrieve.search import with_spares, without_repeats

    with _library(folder, encoder, rebuild, index, store) as library:
        _update(library, None, None)
        finder = replace(library.search, exact=exact)
        within, most = _filter(where), with_spares(count)
        if hyde is None:
            hits = finder.find(query, most, mode=mode, where=within)
        else:
            hits = finder.find_with(_made_up(library, query, hyde), query, most, mode or "hybrid", within)
        hits = without_repeats(hits, count)
        if as_json:
            typer.echo(json.dumps([_row(hit) for hit in hits], ensure_ascii=False))
        else:
            _print_hits(hits)


def ask(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The documents; left out with --web.")],
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", help="What they are to answer.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help=given.MODEL_HELP)] = DEFAULT_MODEL,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Ask the model of this server.")] = None,
    api_key_file: Annotated[
        str | None, typer.Option("--api-key-file", metavar="FILE", help="The server's key; else OCTAVO_API_KEY.")
    ] = None,
    count: Count = 4,
    mode: Mode = None,
    where: Where = None,
    encoder: Encoder = None,
    reader: ReaderModel = None,
    chunk: Chunk = None,
    overlap: Overlap = None,
    rebuild: Rebuild = False,
    index: Index = None,
    store: StoreKind = None,
    web: Annotated[bool, typer.Option("--web", help="Ask pages of the web; the question is the one argument.")] = False,
    web_search: Annotated[
        str | None, typer.Option("--search", metavar="SEARCH", help="For --web: searxng:URL, brave, or site:URL.")
    ] = None,
    scorer: Annotated[
        str, typer.Option("--scorer", metavar="NAME", help="For --web: poe, noisy-channel, rag, or direct.")
    ] = "poe",
    as_json: given.AsJson = False,
) -> None:
    """Answer a question from a folder's documents, each sentence with what it rests on.

    A reader marks the exact words that answer, or says that there are none: then the
    nearest passages are shown. The model phrases the answer; where it does not say
    what was marked, or no passage supports it, the marked sentence is quoted.

    Examples:

      octavo ask docs/ "How is a model pulled?"

      octavo ask papers/ "What does the third chapter prove?" --where type=pdf --json

      octavo ask docs/ "Who wrote this?" --url http://127.0.0.1:8000/v1

      octavo ask docs/ "Who wrote this?" --store chroma --chunk 1000 --overlap 20 -k 4

      octavo ask --web "When does the museum open?" --search searxng:http://127.0.0.1:8888
    """
    from octavo.errors import OctavoError
    from octavo.retrieve.reader import answer, rerank
    from octavo.retrieve.search import with_spares, without_repeats

    if web:
        _ask_web(folder if question is None else None, question, model, url, web_search, scorer, count, as_json)
        return
    if question is None:
        raise OctavoError("a folder and a question are needed, in this order; --web asks without a folder")
    with _library(folder, encoder, rebuild, index, store) as library, _reader(reader) as reads:
        _update(library, chunk, overlap)
        hits = library.search.find(question, with_spares(count), mode=mode, where=_filter(where))
        hits = without_repeats(rerank(reads, question, hits), count)
        with closing(_load_model(model, url, api_key_file)) as loaded:
            found = answer(loaded, question, hits, reads)
    if as_json:
        typer.echo(json.dumps(_answer_row(found, hits), ensure_ascii=False))
    else:
        _print_answer(found, hits)


def _ask_web(
    asked: Path | None,
    extra: str | None,
    model: str,
    url: str | None,
    search: str | None,
    scorer: str,
    count: int,
    as_json: bool,
) -> None:
    from octavo.cli.systems.web import ask_web
    from octavo.errors import OctavoError

    if asked is None:
        raise OctavoError(f"--web takes the question alone, and {extra!r} came second; quote the question")
    loaded = _load_model(model, url, None)
    try:
        ask_web(loaded, str(asked), search, scorer, count, as_json)
    finally:
        loaded.close()


@contextmanager
def _library(
    folder: Path, encoder: str | None, rebuild: bool, index: str | None, store: str | None
) -> Iterator[Library]:
    from octavo.retrieve.library import open_library

    library = open_library(folder, given.load_encoder, index=index, store=store, encoder=encoder, rebuild=rebuild)
    if library.note:
        tell(library.note)
    try:
        yield library
    finally:
        library.close()


@contextmanager
def _reader(reader: str | None) -> Iterator[Reader | None]:
    """The reader that was named, the one that comes with Octavo, or none."""
    from octavo.retrieve.reader import Reader

    if reader == "none":
        yield None
        return
    with Reader.load(None if reader is None else given.obtain(reader)) as loaded:
        yield loaded


def _made_up(library: Library, query: str, model: str) -> Vectors:
    """The vector that HyDE searches with."""
    from octavo.errors import OctavoError
    from octavo.retrieve.hyde import hyde_vector, hypothetical_passages

    if library.encoder is None:
        raise OctavoError("--hyde searches by meaning, and this index has words alone; make it with an encoder")
    loaded = _load_model(model, None, None)
    try:
        return hyde_vector(library.encoder, query, hypothetical_passages(loaded, query))
    finally:
        loaded.close()


def _load_model(model: str, url: str | None, api_key_file: str | None) -> LanguageModel:
    if url is not None:
        from octavo.generate.remote import RemoteModel

        return RemoteModel(url, None if model == DEFAULT_MODEL else model, api_key=given.api_key(api_key_file))
    from octavo.generate.local import load

    return load(given.obtain(model))


def _update(library: Library, chunk: int | None, overlap: int | None) -> Report:
    """Index what changed; tell what was left out."""
    report = library.update(chunk, overlap)
    for skipped in report.skipped:
        tell(f"left out {skipped}")
    for note in report.notes:
        tell(note)
    return report


def _copy(library: Library, path: Path) -> None:
    from octavo.errors import OctavoError
    from octavo.retrieve.stores.sqlite import SqliteStore

    if not isinstance(library.store, SqliteStore):
        raise OctavoError("--snapshot copies an index that is a file; copy a database with its own pg_dump")
    library.store.snapshot(path)


def _summary(library: Library, report: Report) -> str:
    listing = library.store.listing()
    passages = sum(entry.passages for entry in listing.values())
    changes = f"{report.added} added, {report.changed} changed, {report.removed} removed, {report.unchanged} as before"
    return (
        f"{len(listing)} documents, {passages:,} passages ({changes}; {len(report.skipped)} left out) "
        f"in {report.seconds:.1f} s, in {library.place}"
    )


def _described(library: Library, report: Report) -> dict[str, Any]:
    return {
        **asdict(report),
        "index": library.place,
        "encoder": None if library.store.space is None else library.store.space.encoder,
        "documents": {
            name: {"sha256": entry.sha256, "passages": entry.passages, "metadata": dict(entry.metadata)}
            for name, entry in library.store.listing().items()
        },
    }


def _row(hit: Hit) -> dict[str, Any]:
    """A hit as JSON: a citation, its text and its score."""
    passage = hit.passage
    return {
        "document": passage.document,
        "sha256": passage.sha256,
        "start": passage.place.start,
        "end": passage.place.end,
        "page": passage.place.page,
        "line": passage.place.line,
        "context": passage.place.context,
        "score": hit.score,
        "text": passage.text,
    }


def _print_hits(hits: list[Hit]) -> None:
    if not hits:
        tell("nothing was found; try other words")
    for number, hit in enumerate(hits, 1):
        passage = hit.passage
        say(f"{number}. {_where(passage.document, passage.place)}")
        say(f"{_quoted(passage.text.strip())}\n")


def _answer_row(answered: GroundedAnswer, hits: list[Hit]) -> dict[str, Any]:
    """An answer as JSON, with the passages that were found."""
    return {
        "answer": answered.text,
        "answered": answered.answered,
        "citations": [asdict(citation) for citation in answered.citations],
        "span": None if answered.span is None else asdict(answered.span),
        "no_answer_score": answered.no_answer_score,
        "unsupported": list(answered.unsupported),
        "passages": [_row(hit) for hit in hits],
        "left_out": answered.left_out,
    }


def _print_answer(answered: GroundedAnswer, hits: list[Hit]) -> None:
    from octavo.retrieve.stores.store import Place

    say(answered.text)
    for citation in answered.citations:
        place = Place(citation.start, citation.end, citation.page, citation.line)
        say(f"\n[{citation.number}] {_where(citation.document, place)}\n{_quoted(citation.text)}")
    if not answered.answered and hits:
        say("\nThe nearest passages:")
        for hit in hits[:NEAREST]:
            text = hit.passage.text.strip()
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
            say(f"\n{_where(hit.passage.document, hit.passage.place)}\n{_quoted(shown)}")
    if answered.left_out:
        tell(f"{answered.left_out} passages did not fit the model's context and were left out")


def _quoted(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _where(document: str, place: Place) -> str:
    """Where a passage begins, as people say it, and its characters."""
    page = "" if place.page is None else f", page {place.page}"
    line = "" if place.line is None or place.page is not None else f", line {place.line}"
    return f"{document}{page}{line} ({place.start}-{place.end})"


def _filter(conditions: list[str] | None) -> Any:
    from octavo.retrieve.filters import Compound, read_condition

    return Compound("and", tuple(read_condition(text) for text in conditions)) if conditions else None
