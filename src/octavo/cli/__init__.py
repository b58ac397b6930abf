"""The command line: the table of commands, and the one place where errors become exit codes.

0 done; 1 our own bug; 2 something the user can mend, said in one line; 130 Ctrl-C; 141 the reader of a pipe went away.
Modules of commands import nothing heavy at the top, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from octavo.cli.chat import chat
from octavo.cli.configuring.defaults import default_map
from octavo.cli.configuring.show import config
from octavo.cli.documents import ask, index, search
from octavo.cli.embed import embed, rerank
from octavo.cli.evaluating import evaluations
from octavo.cli.examining.bench import bench
from octavo.cli.examining.catalogue import catalogue
from octavo.cli.examining.doctor import doctor
from octavo.cli.examining.fit import fit
from octavo.cli.examining.inspect import inspect
from octavo.cli.examining.verify import verify
from octavo.cli.mcp import mcp
from octavo.cli.models import export, list_models, pull, remove, show
from octavo.cli.run import run
from octavo.cli.running import feedback, ps, stop
from octavo.cli.serve import serve
from octavo.cli.systems.asking import fid, rag
from octavo.cli.systems.caption import caption
from octavo.cli.systems.ckip import ckip
from octavo.cli.systems.code import code
from octavo.cli.systems.guard import guard
from octavo.cli.systems.retro import retro
from octavo.cli.train import train
from octavo.errors import OctavoError, nearest

EXIT_BUG, EXIT_USER, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 130, 141

app = typer.Typer(
    name="octavo",
    rich_markup_mode=None,  # rich costs 35 ms, and plain text pipes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`octavo COMMAND --help` shows each command's options and examples.",
)


@app.callback(invoke_without_command=True)
def octavo(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an unexpected error arose.")] = False,
) -> None:
    """Run, train, serve and measure language models on your own machine.

    Examples:

      octavo run smollm2-135m-instruct "Why is the sky blue?"

      octavo chat

      octavo serve
    """
    context.obj["traceback"] = traceback
    if version:
        from importlib.metadata import version as installed_version

        typer.echo(f"octavo {installed_version('octavo')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("run")(run)
app.command("chat")(chat)
app.command("serve")(serve)
app.command("mcp")(mcp)
app.command("train")(train)
app.command("ask")(ask)
app.command("search")(search)
app.command("index")(index)
app.command("pull")(pull)
app.command("list")(list_models)
app.command("ls", hidden=True)(list_models)
app.command("show")(show)
app.command("rm")(remove)
app.command("export")(export)
app.add_typer(catalogue, name="models")
app.command("fit")(fit)
app.command("verify")(verify)
app.command("inspect")(inspect)
app.command("ps")(ps)
app.command("stop")(stop)
app.command("feedback")(feedback)
app.command("bench")(bench)
app.add_typer(evaluations, name="eval")
app.command("embed")(embed)
app.command("rerank")(rerank)
app.command("caption")(caption)
app.command("guard")(guard)
app.command("doctor")(doctor)
app.add_typer(rag, name="rag")
app.add_typer(fid, name="fid")
app.add_typer(retro, name="retro")
app.add_typer(code, name="code")
app.add_typer(ckip, name="ckip")
app.add_typer(config, name="config")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command line and exit the process with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    flags: dict[str, Any] = {}
    if sys.stdout is None:  # closed by the shell (>&-): what is printed goes nowhere
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        code = _execute(given, flags)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        code = EXIT_PIPE
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _discard_output()
            _say("the output cannot be written: its disk is full; free some space")
            sys.exit(EXIT_USER)
        if flags.get("traceback"):
            raise
        again = shlex.join(["octavo", "--traceback", *given])
        _say(f"unexpected {type(error).__name__}: {_one_line(error)}; to see where: {again}")
        code = EXIT_BUG
    sys.exit(code)


def _discard_output() -> None:
    """The interpreter flushes stdout once more at exit, which must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _execute(given: list[str], flags: dict[str, Any]) -> int:
    command = typer.main.get_command(app)
    try:
        defaults = default_map(command)
        result = command.main(args=given, prog_name="octavo", standalone_mode=False, obj=flags, default_map=defaults)
        return result if isinstance(result, int) else 0
    except OctavoError as error:
        _say(_one_line(error))
        return EXIT_USER
    except typer.TyperException as error:
        _say(_usage_problem(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except SystemExit:  # only how typer reports a broken pipe here
        return EXIT_PIPE


def _usage_problem(error: typer.TyperException) -> str:
    """What is wrong with the words of the command line, and where to read on."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command if context else None
    if match := re.match(r"No such (option: |command ')([^' ]+)", message):
        known = [name for parameter in command.params for name in parameter.opts] if command else []
        known = list(getattr(command, "commands", known)) if match[1].startswith("command") else known
        message = f"no such {match[1].split()[0].rstrip(':')} {match[2]}{nearest(match[2], known)}"
    path = context.command_path if context else "octavo"
    return f"{message[:1].lower()}{message[1:].rstrip('?')}; see `{path} --help`"


def _one_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()


def _say(message: str) -> None:
    sys.stderr.write(f"octavo: error: {message}\n")
