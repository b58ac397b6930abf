"""`octavo chat`: a conversation on the terminal, with a local model or a server's."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from octavo.cli import arguments as given
from octavo.fetching.sources import DEFAULT_MODEL

if TYPE_CHECKING:
    from octavo.cli.conversation import Conversation
    from octavo.generate.local import LocalModel
    from octavo.generate.remote import RemoteModel
    from octavo.serve.mcp.calling import Toolbox
    from octavo.serve.mcp.client import McpTool

HELP = """\
/new            forget the conversation; so does /clear
/system TEXT    set the system message and begin anew; without TEXT: show it
/retry          answer the last message again
/undo           take the last message and its answer back
/help           this
/exit           leave; so does Ctrl-D
A line that ends with \\ goes on in the next; what stands between two \"\"\" is one message.
Ctrl-C stops an answer."""
QUOTES = '"' * 3
COMMANDS = ("/new", "/clear", "/system", "/retry", "/undo", "/help", "/exit", "/quit", "/bye")


def chat(
    model: given.OptionalModel = DEFAULT_MODEL,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Talk to this server instead.")] = None,
    api_key_file: Annotated[
        str | None, typer.Option("--api-key-file", metavar="FILE", help="The server's key; else OCTAVO_API_KEY.")
    ] = None,
    mcp: Annotated[
        bool, typer.Option("--mcp", help="Let the model use the tools of the servers in mcp.toml; each call is asked.")
    ] = False,
    system: given.System = None,
    max_tokens: given.MaxTokens = None,
    temperature: given.Temperature = None,
    top_k: given.TopK = None,
    top_p: given.TopP = None,
    min_p: given.MinP = None,
    repetition_penalty: given.RepetitionPenalty = None,
    seed: given.Seed = None,
    runner: given.Runner = None,
    context: given.Context = None,
    quantize: given.Quantize = None,
    ignore_config_key: given.IgnoreConfigKey = None,
) -> None:
    """Talk with a model. /help inside shows what else can be said.

    Examples:

      octavo chat

      octavo chat ./model.gguf --system "Answer in one sentence."

      octavo chat --url http://127.0.0.1:8000/v1

      octavo chat ./model.gguf --mcp
    """
    from octavo.cli.conversation import Conversation
    from octavo.generate.lm import Request

    opened = _remote(model, url, api_key_file) if url else _local(model, runner, context, quantize, ignore_config_key)
    with contextlib.closing(opened), _toolbox(mcp) as toolbox:
        sampling = given.adjusted(
            opened.sampling,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
        )
        _note(f"{opened.name}; /help for help, Ctrl-D to leave")
        talk = Conversation(opened, Request("", max_tokens, sampling), system, toolbox, _consents)
        for said in _messages():
            _answer(talk, said)


@contextlib.contextmanager
def _toolbox(wanted: bool) -> Iterator[Toolbox | None]:
    """The tools of the servers that mcp.toml names, where they are wanted."""
    if not wanted:
        yield None
        return
    from octavo import settings
    from octavo.serve.mcp.calling import Toolbox
    from octavo.serve.mcp.client import McpClient
    from octavo.serve.mcp.servers import read_servers

    with McpClient(read_servers(settings.mcp_file())) as client:
        _note(f"tools: {', '.join(tool.name for tool in client.tools) or 'none'}")
        yield Toolbox(client)


def _consents(tool: McpTool, arguments: str) -> bool:
    """Show a call and ask; where nobody can answer it is declined."""
    from octavo.cli.terminal import CONTROL

    _note(f"{tool.server} would run {tool.tool} {CONTROL.sub('', arguments)}")
    if not sys.stdin.isatty():
        _note(f"declined: there is nobody to ask; allow = [{tool.tool!r}] in mcp.toml runs it unasked")
        return False
    return input("Run it? [y/N] ").strip().lower() in ("y", "yes")


def _local(
    model: str,
    runner: given.RunnerName | None,
    context: int | None,
    quantize: str | None,
    ignore_config_key: list[str] | None,
) -> LocalModel:
    from octavo.generate.local import load

    ignored = ignore_config_key or ()
    return load(given.obtain(model), runner=runner, context=context, quantize=quantize, ignore_config_keys=ignored)


def _remote(model: str, url: str, api_key_file: str | None) -> RemoteModel:
    from octavo.generate.remote import RemoteModel

    return RemoteModel(url, None if model == DEFAULT_MODEL else model, api_key=given.api_key(api_key_file))


def _answer(talk: Conversation, said: str) -> None:
    """Do what one message asks. What goes wrong is said, and the conversation goes on."""
    from octavo.errors import OctavoError, nearest

    word, _, rest = said.partition(" ")
    try:
        if word == "/help":
            _note(HELP)
        elif word in ("/new", "/clear"):
            talk.clear()
        elif word == "/system":
            if rest:
                talk.begin(rest.strip())
            _note(f"system: {talk.system or 'none'}")
        elif word == "/undo":
            talk.undo()
        elif word == "/retry":
            _note(talk.retry().speed())
        elif word.startswith("/") and word[1:].isalpha():
            raise OctavoError(f"there is no command {word}{nearest(word, COMMANDS) or '; /help shows them'}")
        else:
            _note(talk.say(said).speed())
    except OctavoError as error:
        _note(f"error: {error}")


def _messages() -> Iterator[str]:
    """What is typed, one message at a time, until /exit or the end of input."""
    with contextlib.suppress(ImportError):
        importlib.import_module("readline")  # gives input() line editing, and what was said before
    while True:
        try:
            said = _read_message()
        except EOFError:
            _note("")
            return
        except KeyboardInterrupt:
            _note(" (Ctrl-D or /exit leaves)")
            continue
        if said in ("/exit", "/quit", "/bye"):
            return
        if said:
            yield said


def _read_message() -> str:
    line = _read_line("> ")
    if line.lstrip().startswith(QUOTES):
        lines = [line.lstrip().removeprefix(QUOTES)]
        while not lines[-1].rstrip().endswith(QUOTES):
            lines.append(_read_line(". "))
        lines[-1] = lines[-1].rstrip().removesuffix(QUOTES)
        return "\n".join(lines).strip()
    lines = [line]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(_read_line(". "))
    return "\n".join(lines).strip()


def _read_line(prompt: str) -> str:
    """A line of input; the prompt appears only where a person types."""
    return input(prompt if sys.stdin.isatty() and sys.stdout.isatty() else "")


def _note(text: str) -> None:
    """A line about the answer, not part of it; grey on a terminal that has colours."""
    from octavo import settings

    grey = settings.colours(terminal=sys.stderr.isatty())
    sys.stderr.write(f"\x1b[2m{text}\x1b[0m\n" if grey else f"{text}\n")
    sys.stderr.flush()
