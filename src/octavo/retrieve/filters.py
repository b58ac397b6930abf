"""Filters on the metadata of documents, in the shape of OpenAI's vector stores.

`{"type": "eq", "key": "author", "value": "Lo Kuan-chung"}`, and `{"type": "and", "filters": [...]}` over others. A
document without the key matches `ne` and `nin` alone. A number never equals a text.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from octavo.errors import OctavoError, UnknownNameError, nearest
from octavo.retrieve.stores.store import Scalar

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "in": lambda found, values: found in values,
    "nin": lambda found, values: found not in values,
}
SIGNS = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


@dataclass(frozen=True)
class Comparison:
    """One key compared with a value, or with a list of values for `in` and `nin`."""

    type: str
    key: str
    value: Scalar | tuple[Scalar, ...]

    def matches(self, metadata: Mapping[str, Scalar]) -> bool:
        """Whether a document with this metadata passes."""
        if self.key not in metadata:
            return self.type in ("ne", "nin")
        found = metadata[self.key]
        if self.type in ("gt", "gte", "lt", "lte") and isinstance(found, str) != isinstance(self.value, str):
            return False
        return COMPARISONS[self.type](found, self.value)


@dataclass(frozen=True)
class Compound:
    """All of several filters (`and`), or any (`or`)."""

    type: str
    filters: tuple[Filter, ...]

    def matches(self, metadata: Mapping[str, Scalar]) -> bool:
        """Whether a document with this metadata passes."""
        results = (entry.matches(metadata) for entry in self.filters)
        return all(results) if self.type == "and" else any(results)


Filter = Comparison | Compound


def read_filter(data: Any, *, param: str = "filters") -> Filter:
    """A filter from its JSON. Raises OctavoError for one that is malformed, UnknownNameError for an unknown type."""
    if not isinstance(data, Mapping) or not isinstance(data.get("type"), str):
        raise OctavoError(f"a filter is an object with a type, a key and a value, not {str(data)[:80]}", param=param)
    kind = data["type"]
    if kind in ("and", "or"):
        _check_keys(data, {"type", "filters"}, param)
        if not isinstance(data["filters"], list):
            raise OctavoError(f"the filters of {kind!r} are not a list", param=param)
        return Compound(kind, tuple(read_filter(entry, param=param) for entry in data["filters"]))
    if kind not in COMPARISONS:
        known = ("and", "or", *COMPARISONS)
        raise UnknownNameError(f"no filter is of the type {kind!r}{nearest(kind, known)}", param=param)
    _check_keys(data, {"type", "key", "value"}, param)
    return Comparison(kind, _checked_key(data["key"], param), _checked_value(kind, data["value"], param))


def read_condition(text: str, *, param: str = "--where") -> Filter:
    """A filter as it is typed: KEY=VALUE, with !=, >, >=, < or <= for =. A value that reads as a number is one.

    Raises OctavoError for a text without a sign.
    """
    match = re.fullmatch(r"\s*([^=!<>]+?)\s*(!=|>=|<=|=|<|>)\s*(.*?)\s*", text, re.DOTALL)
    if match is None:
        raise OctavoError(f"{param} {text!r} is not KEY=VALUE, as in type=pdf or year>=2020", param=param)
    key, sign, value = match.groups()
    number = re.fullmatch(r"-?\d+(\.\d+)?", value)
    return Comparison(SIGNS[sign], key, value if number is None else float(value) if number[1] else int(value))


def _check_keys(data: Mapping[str, Any], known: set[str], param: str) -> None:
    for key in data:
        if key not in known:
            raise UnknownNameError(
                f"a filter of type {data['type']!r} has no {key!r}{nearest(key, known)}", param=param
            )
    for key in known - set(data):
        raise OctavoError(f"a filter of type {data['type']!r} lacks its {key!r}", param=param)


def _checked_key(key: Any, param: str) -> str:
    if not isinstance(key, str) or not key:
        raise OctavoError("a filter's key is a text that is not empty", param=param)
    return key


def _checked_value(kind: str, value: Any, param: str) -> Scalar | tuple[Scalar, ...]:
    if kind in ("in", "nin"):
        if not isinstance(value, list) or not all(isinstance(entry, Scalar) for entry in value):
            raise OctavoError(f"the value of a filter of type {kind!r} is a list of texts and numbers", param=param)
        return tuple(value)
    if not isinstance(value, Scalar):
        raise OctavoError(f"the value of a filter of type {kind!r} is a text, a number or a boolean", param=param)
    return value
