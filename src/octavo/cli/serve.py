"""`octavo serve`: the chat page and OpenAI's API over one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import arguments as given
from octavo.models.sources import DEFAULT_MODEL

if TYPE_CHECKING:
    from octavo.generate.lm import LanguageModel


def serve(
    model: given.OptionalModel = DEFAULT_MODEL,
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
    max_running: Annotated[int, typer.Option("--max-running", metavar="N", help="Answers at the same time.")] = 8,
    max_queue: Annotated[int, typer.Option("--max-queue", metavar="N", help="Requests that may wait.")] = 64,
    runner: given.Runner = None,
    context: given.Context = None,
    ignore_config_key: given.IgnoreConfigKey = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="A line on stderr for each request.")] = False,
) -> None:
    """Serve a model: a chat page, and OpenAI's API under /v1.

    The default model is fetched when it is not installed. Ctrl-C stops; running
    answers get some seconds to end.

    Examples:

      octavo serve

      octavo serve ./runs/shakespeare/model --port 8080

      octavo serve --host 0.0.0.0 --api-key-file key.txt
    """
    from octavo.serve.http.server import run
    from octavo.serve.http.settings import ServerSettings

    settings = ServerSettings(
        host=host,
        port=port,
        api_key=given.api_key(api_key_file),
        allow_no_key=allow_no_key,
        allowed_hosts=tuple(allowed_hosts or ()),
        max_running=max_running,
        max_queue=max_queue,
        access_log=access_log,
    )
    running: list[str] = []

    def load_model() -> Sequence[LanguageModel]:
        from octavo.generate.local import load

        loaded = load(given.obtain(model), runner=runner, context=context, ignore_config_keys=ignore_config_key or ())
        running.append(loaded.engine.runner.name)
        return [loaded]

    def announce(address: str, names: Sequence[str]) -> None:
        typer.echo(_next_steps(address, names[0], running[0], settings.api_key is not None), err=True)

    run(load_model, settings, on_ready=announce)


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
