"""`octavo ps`, `stop` and `feedback`: what a running server holds in memory, and what people thought of its answers."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from octavo.cli import arguments as given
from octavo.cli.tables import gigabytes, print_table

if TYPE_CHECKING:
    import httpx2

Url = Annotated[str, typer.Option("--url", metavar="ADDRESS", help="The server.")]
KeyFile = Annotated[
    str | None, typer.Option("--api-key-file", metavar="FILE", help="The server's key; else OCTAVO_API_KEY.")
]
LOCAL = "http://127.0.0.1:8000"


def ps(url: Url = LOCAL, api_key_file: KeyFile = None, as_json: given.AsJson = False) -> None:
    """Show the models that a running server has in memory.

    Examples:

      octavo ps

      octavo ps --url http://127.0.0.1:8080 --json
    """
    models = _ask(url, "ps", api_key_file)["models"]
    if as_json:
        typer.echo(json.dumps(models))
    elif not models:
        typer.echo(f"no model is in memory at {url}", err=True)
    else:
        head = ("name", "size", "format", "context", "unloaded")
        print_table(head, [_row(model) for model in models])


def stop(model: given.Model, url: Url = LOCAL, api_key_file: KeyFile = None) -> None:
    """Unload a model of a running server, to free its memory.

    It is loaded again when it is next asked for. A model that is answering stays.

    Examples:

      octavo stop my-model
    """
    from octavo.errors import OctavoError

    _ask(url, "generate", api_key_file, {"model": model, "keep_alive": 0, "stream": False})
    if any(loaded["name"] == model for loaded in _ask(url, "ps", api_key_file)["models"]):
        raise OctavoError(
            f"{model} stays: it is answering, or this server could not load it again; stop the server instead"
        )
    typer.echo(f"unloaded {model}", err=True)


def feedback(
    form: Annotated[
        Literal["preference", "unpaired"],
        typer.Option("--format", help="Liked beside disliked answers (DPO), or each with a label (KTO)."),
    ] = "preference",
    url: Url = LOCAL,
    api_key_file: KeyFile = None,
) -> None:
    """Print a running server's ratings of answers as training data, a JSON object a line.

    Examples:

      octavo feedback > preferences.jsonl

      octavo feedback --format unpaired > ratings.jsonl
    """
    answer = _request(url, f"v1/feedback/export?format={form}", api_key_file, None)
    if not answer.text:
        typer.echo(f"nobody has rated answers at {url} in a way that gives such rows", err=True)
    typer.echo(answer.text, nl=False)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    expires = datetime.datetime.fromisoformat(model["expires_at"])
    left = (expires - datetime.datetime.now(datetime.UTC)).total_seconds()
    when = "never" if left > 1e9 else f"in {left:.0f} s"
    details = model["details"]
    form = " ".join(filter(None, (details["format"], details["quantization_level"])))
    return (model["name"], gigabytes(model["size"]), form or "-", str(model["context_length"] or "-"), when)


def _ask(url: str, what: str, key_file: str | None, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of a path below /api."""
    found: dict[str, Any] = _request(url, f"api/{what}", key_file, body).json()
    return found


def _request(url: str, path: str, key_file: str | None, body: dict[str, Any] | None) -> httpx2.Response:
    """The server's answer. Raises RemoteError where there is none, or an error."""
    import httpx2

    from octavo.errors import RemoteError

    address = url.rstrip("/").removesuffix("/v1")
    key = given.api_key(key_file)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx2.request("GET" if body is None else "POST", f"{address}/{path}", json=body, headers=headers)
        if answer.is_success:
            return answer
        said = answer.json()["error"]
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, LookupError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise RemoteError(f"no server answers at {address} ({reason}); start one with `octavo serve`") from None
    text = said.get("message") if isinstance(said, dict) else said
    raise RemoteError(f"{address} answered {answer.status_code}: {text}")
