"""Turns pydantic's findings about a recipe into one sentence: which key, which value, what is allowed.

An unknown key is answered with the nearest known one, of its own section first, then of the others.
"""

from __future__ import annotations

import difflib
from types import NoneType
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from octavo.errors import OctavoError, UnknownNameError, brief, nearest


def explain(error: ValidationError, recipe: type[BaseModel], where: str) -> OctavoError:
    """The error to raise for a refused recipe; `where` names the file. All findings are told, unknown keys first."""
    findings = sorted(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    keys = known_keys(recipe)
    sentence = f"{where}: " + "; ".join(_describe(found, keys) for found in findings)
    first = _dotted(findings[0])
    kind = UnknownNameError if findings[0]["type"] == "extra_forbidden" else OctavoError
    return kind(sentence, param=first or None)


def known_keys(recipe: type[BaseModel]) -> dict[str, list[str]]:
    """Section names of a recipe's class with the keys of each."""
    sections: dict[str, list[str]] = {}
    for name, field in recipe.model_fields.items():
        (section,) = (kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not NoneType)
        assert isinstance(section, type) and issubclass(section, BaseModel)
        sections[name] = list(section.model_fields)
    return sections


def _dotted(found: ErrorDetails) -> str:
    return ".".join(str(part) for part in found["loc"])


def _describe(found: ErrorDetails, keys: dict[str, list[str]]) -> str:
    path = [str(part) for part in found["loc"]]
    match found["type"]:
        case "extra_forbidden":
            return _unknown(path, keys)
        case "missing":
            return f"{'.'.join(path)} is missing"
        case "value_error":  # our own validators write whole sentences
            message = found["msg"].removeprefix("Value error, ")
            return f"[{'.'.join(path)}] {message}" if path else message
    allowed = found["msg"].replace("Input should be", "it must be")
    if found["type"] in ("model_type", "model_attributes_type"):
        return f"{'.'.join(path)} is {brief(found['input'])}; it must be a section, [{path[0]}]"
    return f"{'.'.join(path)} is {brief(found['input'])}; {allowed[0].lower()}{allowed[1:]}"


def _unknown(path: list[str], keys: dict[str, list[str]]) -> str:
    dotted = ".".join(path)
    name = path[-1]
    if len(path) == 1:
        own, owner = list(keys), "the recipe"
    else:
        own, owner = keys.get(path[0], []), f"[{path[0]}]"
    near = nearest(name, own)
    if not near:
        elsewhere = {key: f"{section}.{key}" for section, names in keys.items() for key in names}
        close = difflib.get_close_matches(name, elsewhere, n=1)
        near = f", did you mean {elsewhere[close[0]]!r}?" if close else f"; {owner} knows {', '.join(own)}"
    return f"unknown key {dotted!r}{near}"
