"""Defaults of the command line's options: OCTAVO_COMMAND_OPTION, else the command's table in config.toml.

Unusual: both become the parser's own defaults, so that `--help` shows them; they are converted and refused here, where
it is known which variable or which key of the file is at fault. A flag goes before both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from octavo import settings
from octavo.errors import OctavoError, UnknownNameError, nearest


@dataclass(frozen=True)
class Option:
    """An option of a command. path: the command's names. key: its name in config.toml. value, origin: who set what."""

    path: tuple[str, ...]
    key: str
    parameter: Any
    value: Any = None
    origin: str = "default"


def options(command: Any, path: tuple[str, ...] = (), table: Any = None) -> Iterator[Option]:
    """All options of a command and of those below it, each with what was set.

    table: what config.toml says of the command; None: all it says. Raises OctavoError for an unknown key or a wrong
    value.
    """
    said = table
    if said is None:
        said = {key: value for key, value in settings.config().items() if key not in settings.SETTINGS}
    own = {_key(parameter): parameter for parameter in command.params if _settable(parameter)} if path else {}
    below = getattr(command, "commands", {})
    _know(said, path, own, below)
    for key, parameter in own.items():
        yield _set(command, Option(path, key, parameter), said.get(key))
    for name, inner in below.items():
        if not inner.hidden:
            yield from options(inner, (*path, name), said.get(name, {}))


def default_map(command: Any) -> dict[str, Any]:
    """What the parser takes as defaults: parameters by name in a table for each command."""
    found: dict[str, Any] = {}
    for option in options(command):
        if option.origin != "default":
            place = found
            for name in option.path:
                place = place.setdefault(name, {})
            place[option.parameter.name] = option.value
    return found


def _key(parameter: Any) -> str:
    """An option's longest name without dashes; an argument's own."""
    return str(max(parameter.opts, key=len)).lstrip("-")


def _settable(parameter: Any) -> bool:
    """A required argument is what a command is about, and --help says what it is: no setting."""
    return not parameter.required and not parameter.is_eager


def _know(said: Any, path: tuple[str, ...], own: Mapping[str, Any], below: Mapping[str, Any]) -> None:
    file, table = settings.config_file(), ".".join(path)
    if not isinstance(said, Mapping):
        raise OctavoError(f"{file}: {table} is a command; give its options in a table [{table}]")
    known = (*own, *below)
    for key in said:
        if key not in known:
            what = "option" if path else "command"
            hint = nearest(key, known) or f"; see `octavo {' '.join((*path, '--help'))}`"
            place = f" in [{table}]" if path else ""
            raise UnknownNameError(f"{file}: there is no {what} {key!r}{place}{hint}")


def _set(command: Any, option: Option, in_file: Any) -> Option:
    """The option with what was set, converted as the command line would."""
    parameter = option.parameter
    variable = settings.variable(*option.path, option.key)
    text = settings.environment().get(variable)
    if text is not None:
        value: Any = text.split() if parameter.multiple or parameter.nargs == -1 else text
        origin, named = variable, f"{variable}={text!r}"
    elif in_file is not None:
        value, origin = in_file, str(settings.config_file())
        named = f"{origin}: {option.key} = {in_file!r} in [{'.'.join(option.path)}]"
        if _misfit(parameter, in_file):
            raise OctavoError(f"{named} is of another kind; see `octavo {' '.join(option.path)} --help`")
    else:
        return option
    try:
        value = parameter.type_cast_value(typer.Context(command), value)
    except typer.TyperException as error:
        raise OctavoError(f"{named}: {str(error).rstrip('.')}") from None
    return Option(option.path, option.key, parameter, list(value) if isinstance(value, tuple) else value, origin)


def _misfit(parameter: Any, value: Any) -> bool:
    """Whether a value of the file is none of the option's kind: TOML tells lists, flags, numbers and texts apart."""
    several = parameter.multiple or parameter.nargs == -1
    if several != isinstance(value, list):
        return True
    name = parameter.type.name.partition(" ")[0]
    kinds = {"int": (int,), "float": (int, float), "boolean": (bool,)}.get(name, (str,))
    return any(type(entry) not in kinds for entry in (value if several else [value]))
