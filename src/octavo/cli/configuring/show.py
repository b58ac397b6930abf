"""`octavo config show`: the settings that hold here, and where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from octavo.cli.arguments import AsJson
from octavo.cli.tables import print_table

if TYPE_CHECKING:
    from octavo.cli.configuring.defaults import Option

config = typer.Typer(no_args_is_help=True)


@config.callback()
def about() -> None:
    """Show the settings: flag, else OCTAVO_* variable, else config.toml, else default.

    Examples:

      octavo config show --origin

      octavo config show serve

      OCTAVO_SERVE_PORT=8080 octavo config show serve --origin --json
    """


@config.command()
def show(
    context: typer.Context,
    command: Annotated[
        str | None, typer.Argument(metavar="COMMAND", help="All options of this command; else those that were set.")
    ] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the general settings, and what was set for commands in config.toml and the environment.

    Examples:

      octavo config show --origin

      octavo config show serve
    """
    from octavo import settings

    rows = list(_of_command(context, command) if command else (*_general(), *_set_somewhere(context)))
    if as_json:
        typer.echo(json.dumps([{"setting": name, "value": value, "origin": source} for name, value, source in rows]))
    else:
        head = ("setting", "value", "origin") if origin else ("setting", "value")
        print_table(head, [(name, _shown(value), source)[: len(head)] for name, value, source in rows])
        typer.echo(f"config.toml: {settings.config_file()}", err=True)
    _warn_of_unknown(context)


Row = tuple[str, Any, str]


def _general() -> Iterator[Row]:
    from octavo import settings

    values = {
        "offline": settings.offline(),
        "kernels": settings.kernels(),
        "threads": settings.threads(),
        "pin-threads": settings.pin_threads(),
        "pack-cache": settings.pack_cache(),
        "kv-cache": settings.kv_cache(),
        "device": settings.device(),
    }
    assert set(values) == set(settings.SETTINGS)
    yield from ((name, value, settings.origin(name)) for name, value in values.items())
    yield (
        "api-key",
        None if settings.api_key() is None else "(set)",
        "OCTAVO_API_KEY" if settings.api_key() else "default",
    )


def _options(context: typer.Context) -> Iterator[Option]:
    from octavo.cli.configuring.defaults import options

    return options(context.find_root().command)


def _set_somewhere(context: typer.Context) -> Iterator[Row]:
    return (_row(option) for option in _options(context) if option.origin != "default")


def _of_command(context: typer.Context, command: str) -> list[Row]:
    from octavo.errors import UnknownNameError, nearest

    found = [_row(option) for option in _options(context) if option.path[0] == command]
    if not found:
        names = {option.path[0] for option in _options(context)}
        raise UnknownNameError(f"there is no command {command!r} with settings{nearest(command, names)}")
    return found


def _row(option: Option) -> Row:
    value = option.parameter.default if option.origin == "default" else option.value
    return f"{'.'.join(option.path)}.{option.key}", value, option.origin


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "-"
    return str(value).lower() if isinstance(value, bool) else " ".join(value) if isinstance(value, list) else str(value)


def _warn_of_unknown(context: typer.Context) -> None:
    """Variables that begin with OCTAVO_ and mean nothing; those of the tests are none of ours."""
    from octavo import settings
    from octavo.errors import nearest

    known = {settings.variable(*option.path, option.key) for option in _options(context)}
    known |= {settings.variable(name) for name in settings.SETTINGS} | set(settings.OTHER_VARIABLES)
    for name in settings.environment():
        if name not in known and not name.startswith("OCTAVO_TEST_"):
            typer.echo(f"{name} is no setting{nearest(name, known) or '.'}", err=True)
