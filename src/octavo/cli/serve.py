"""`octavo serve`: the chat page and OpenAI's API over one model or several."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli import arguments as given
from octavo.fetching.sources import DEFAULT_MODEL

if TYPE_CHECKING:
    from octavo.generate.lm import LanguageModel
    from octavo.generate.local import LocalModel
    from octavo.serve.documents.served import ServedFolder
    from octavo.serve.http.settings import ServerSettings
    from octavo.serve.http.telemetry import Telemetry
    from octavo.serve.mcp.servers import ServerEntry


def serve(
    models: given.OptionalModels = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="The port; 0: any free one.")] = 8000,
    api_key_file: Annotated[
        str | None, typer.Option("--api-key-file", metavar="FILE", help="Ask for this key; else OCTAVO_API_KEY.")
    ] = None,
    allow_no_key: Annotated[
        bool, typer.Option("--allow-no-key", help="Let every machine that reaches the address in.")
    ] = False,
    allowed_hosts: Annotated[
        list[str] | None, typer.Option("--allowed-host", metavar="NAME", help="Answer to this host name too.")
    ] = None,
    cors_origins: Annotated[
        list[str] | None,
        typer.Option("--cors-origin", metavar="ORIGIN", help="Let pages of this origin use the server."),
    ] = None,
    max_running: Annotated[int, typer.Option("--max-running", metavar="N", help="Answers at the same time.")] = 8,
    max_queue: Annotated[int, typer.Option("--max-queue", metavar="N", help="Requests that may wait.")] = 64,
    max_queued_tokens: Annotated[
        int | None, typer.Option("--max-queued-tokens", metavar="N", help="Tokens that may wait; default: any.")
    ] = None,
    model_alias: Annotated[
        list[str] | None,
        typer.Option("--model-alias", metavar="ALIAS=NAME", help="Another name for a served model; * is anything."),
    ] = None,
    max_loaded: Annotated[int, typer.Option("--max-loaded", metavar="N", help="Models in memory at once.")] = 3,
    keep_alive: Annotated[
        float | None, typer.Option("--keep-alive", metavar="SECONDS", help="Unload a model unused that long.")
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="FILE", help="Where responses and conversations are kept.")
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Keep none.")] = False,
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", metavar="MODEL", help="Serve this embedder or reranker; default: MiniLM, if installed."
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--rerank-template", metavar="NAME|FILE", help="As of `octavo rerank`: makes decoders rerankers."),
    ] = None,
    docs: Annotated[
        list[str] | None,
        typer.Option("--docs", metavar="FOLDER", help="Serve these documents; default: Octavo's manual."),
    ] = None,
    runner: given.Runner = None,
    context: given.Context = None,
    quantize: given.Quantize = None,
    ignore_config_key: given.IgnoreConfigKey = None,
    speculative: given.Speculative = None,
    draft_tokens: given.DraftTokens = 8,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="The longest that an answer may take.")
    ] = 600.0,
    grace: Annotated[
        float, typer.Option("--grace", metavar="SECONDS", help="How long running answers get when it is told to stop.")
    ] = 20.0,
    lora: given.Loras = None,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Let clients use the tools of the MCP servers in mcp.toml, by their names.")
    ] = False,
    otel: Annotated[
        bool, typer.Option("--otel", help="Send spans and metrics to where OTEL_EXPORTER_OTLP_ENDPOINT says.")
    ] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line on stderr for each request.")] = False,
) -> None:
    """Serve models: a chat page, and OpenAI's API under /v1.

    The first model is loaded at once, the others when they are first asked for.
    The default model is fetched when it is not installed. Ctrl-C stops; running
    answers get some seconds to end.

    Examples:

      octavo serve

      octavo serve ./runs/shakespeare/model --port 8080

      octavo serve --docs papers/ --docs notes/

      octavo serve smollm2-135m-instruct ./my-model --model-alias 'gpt-4o-mini=my-model'

      octavo serve ./my-model --lora french=./adapters/french --lora legal=./adapters/legal

      octavo serve --host 0.0.0.0 --api-key-file key.txt
    """
    from octavo.fetching.sources import name_for
    from octavo.generate.tasks.yes_no import read_question
    from octavo.serve.http.settings import ServerSettings
    from octavo.settings import state_dir

    references = models or [DEFAULT_MODEL]
    adapters = dict(_pair(text, "--lora", "NAME=FOLDER", "french=./adapters/french") for text in lora or ())
    settings = ServerSettings(
        host=host,
        port=port,
        api_key=given.api_key(api_key_file),
        allow_no_key=allow_no_key,
        allowed_hosts=tuple(allowed_hosts or ()),
        cors_origins=tuple(cors_origins or ()),
        max_running=max_running,
        max_queue=max_queue,
        max_queued_tokens=max_queued_tokens,
        request_seconds=timeout,
        grace=grace,
        max_loaded=max_loaded,
        keep_alive=keep_alive,
        encoders=tuple(map(given.obtain, encoders)) if encoders else _default_encoder(wanted=bool(docs)),
        rerank_question=None if template is None else read_question(template),
        folders=_folders(docs),
        aliases=tuple(
            _pair(text, "--model-alias", "ALIAS=NAME", "gpt-4o-mini=smollm2-135m-instruct")
            for text in model_alias or ()
        ),
        adapters=tuple((name, name_for(references[0])) for name in adapters),
        state_path=None if no_store else Path(state) if state else state_dir() / "server.sqlite3",
        store=not no_store,
        access_log=access_log,
        telemetry=_telemetry() if otel else None,
        mcp_servers=_mcp_servers() if mcp else (),
    )
    loading = {
        "runner": runner,
        "context": context,
        "quantize": quantize,
        "ignore_config_keys": ignore_config_key or (),
        "speculative": speculative,
        "draft_tokens": draft_tokens,
    }
    try:
        _serve(references, loading, adapters, settings)
    finally:
        if settings.telemetry is not None:
            settings.telemetry.close()


def _serve(
    references: Sequence[str], loading: Mapping[str, Any], adapters: Mapping[str, str], settings: ServerSettings
) -> None:
    """Serve until it is told to stop: the first model at once, with the adapters, the others when they are asked for.

    loading: options of `generate.local.load`.
    """
    from octavo.errors import OctavoError
    from octavo.fetching.sources import name_for
    from octavo.serve.http.server import run

    def load_model(reference: str) -> LocalModel:
        from octavo.generate.local import load

        return load(given.obtain(reference), **loading, adapters=adapters if reference == references[0] else {})

    on_demand = {name_for(reference): (partial(load_model, reference), reference) for reference in references}
    if len(on_demand) < len(references):
        raise OctavoError("two of these models have one name; serve one of them, or name one of the folders otherwise")
    _check_aliases(settings.aliases, [*on_demand, *adapters, *map(name_for, settings.encoders)])
    running: list[str] = []

    def load_first() -> Sequence[LanguageModel]:
        first = load_model(references[0])
        running.append(first.engine.runner.name)
        return [first]

    def announce(address: str, names: Sequence[str]) -> None:
        typer.echo(_next_steps(address, names[0], running[0], settings.api_key is not None), err=True)

    run(load_first, settings, on_ready=announce, on_demand=on_demand)


def _mcp_servers() -> tuple[ServerEntry, ...]:
    from octavo.serve.mcp.client import require_sdk
    from octavo.serve.mcp.servers import read_servers
    from octavo.settings import mcp_file

    require_sdk()
    return tuple(read_servers(mcp_file()))


def _telemetry() -> Telemetry:
    from octavo.serve.http.telemetry import Telemetry

    return Telemetry.from_environment()


def _default_encoder(*, wanted: bool) -> tuple[str, ...]:
    """wanted: it is fetched where it is not installed; what cannot be had is done without, and said."""
    from octavo.errors import OctavoError
    from octavo.fetching.sources import DEFAULT_ENCODER, installed

    if any(model.name == DEFAULT_ENCODER for model in installed()):
        return (DEFAULT_ENCODER,)
    try:
        return (given.obtain(DEFAULT_ENCODER),) if wanted else ()
    except OctavoError as error:
        typer.echo(f"octavo: documents are found by words alone: {error}", err=True)
        return ()


def _folders(docs: Sequence[str] | None) -> tuple[ServedFolder, ...]:
    from octavo.errors import OctavoError
    from octavo.serve.documents.served import ServedFolder, manual

    if docs is None:
        shipped = manual()
        return () if shipped is None else (shipped,)
    for folder in docs:
        if not Path(folder).is_dir():
            raise OctavoError(f"--docs {folder}: there is no such folder")
    return tuple(ServedFolder(Path(folder).resolve(), Path(folder).resolve().name) for folder in docs)


def _pair(text: str, option: str, form: str, example: str) -> tuple[str, str]:
    from octavo.errors import OctavoError

    first, equals, second = text.partition("=")
    if not (first and equals and second):
        raise OctavoError(f"{option} {text!r} is not {form}, as in {example}")
    return first, second


def _check_aliases(aliases: Sequence[tuple[str, str]], names: Collection[str]) -> None:
    from octavo.errors import OctavoError, nearest

    for alias, name in aliases:
        if name not in names:
            served = ", ".join(names)
            raise OctavoError(f"--model-alias {alias}={name}: {name!r} is not served ({served}){nearest(name, names)}")


def _next_steps(address: str, name: str, runner: str, needs_key: bool) -> str:
    key = "KEY" if needs_key else "none"
    header = ' -H "Authorization: Bearer KEY"' if needs_key else ""
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return f"""\
Serving {name} on {runner} at {address}; Ctrl-C stops.

Open the page:   {address}
From a shell:    curl {address}/v1/chat/completions{header} -H "Content-Type: application/json" -d '{body}'
From Python:     from openai import OpenAI
                 client = OpenAI(base_url="{address}/v1", api_key="{key}")
                 print(client.chat.completions.create(model="{name}", messages=[{{"role": "user", "content": "Hello!"}}]).choices[0].message.content)
From a terminal: octavo chat --url {address}/v1"""  # noqa: E501
