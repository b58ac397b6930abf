"""`ConfigReader`: takes a checkpoint's config apart and remembers which keys were read.

Each key must end up read, listed harmless with a reason, or refused by name: a switch that nobody reads would change a
model's answers in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, TypeVar

from octavo.errors import FormatError, UnknownNameError, UnsupportedError, brief, nearest

Choice = TypeVar("Choice")


class Required:
    """The default of a key that must be there."""


REQUIRED: Final = Required()
MAX_INTEGER = 2**31 - 1


class ConfigReader:
    """raw: the config; a null counts as absent. source: the file, for messages. ignore: keys taken as absent."""

    def __init__(self, raw: Mapping[str, Any], source: str, *, ignore: Collection[str] = (), prefix: str = "") -> None:
        self.raw = {key: value for key, value in raw.items() if key not in ignore}
        self.source = source
        self._ignore = ignore
        self._prefix = prefix
        self._read: set[str] = set()
        self._sections: dict[str, ConfigReader] = {}

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.raw.get(key) is not None

    def integer(self, *keys: str, default: int | Required = REQUIRED, low: int = 1, high: int = MAX_INTEGER) -> int:
        """A whole number from low to high, under the first of `keys` that is there."""
        key, value = self._find(keys, default)
        if type(value) is not int or not low <= value <= high:
            raise self._refuse(key, value, f"a whole number from {low} to {high}")
        return value

    def number(self, *keys: str, default: float | Required = REQUIRED) -> float:
        """A number above 0, within what float32 holds."""
        key, value = self._find(keys, default)
        if not _positive(value):
            raise self._refuse(key, value, "a number above 0")
        return float(value)

    def optional_integer(self, key: str, default: int | None) -> int | None:
        """A whole number above 0; null is none, and only a key that is not there is `default`."""
        if not self.has(key):
            self._read.add(key)
            return None if key in self.raw else default
        return self.integer(key)

    def optional_number(self, key: str, default: float | None) -> float | None:
        """A number above 0; null is none, and only a key that is not there is `default`."""
        if not self.has(key):
            self._read.add(key)
            return None if key in self.raw else default
        return self.number(key)

    def flag(self, *keys: str, default: bool | Required = REQUIRED) -> bool:
        """true or false."""
        key, value = self._find(keys, default)
        if type(value) is not bool:
            raise self._refuse(key, value, "true or false")
        return value

    def choice(self, *keys: str, table: Mapping[str, Choice], default: str | Required = REQUIRED) -> Choice:
        """What `table` has for the key's text. Raises UnsupportedError for a text that is not in it."""
        key, value = self._find(keys, default)
        if not isinstance(value, str):
            raise self._refuse(key, value, "a text")
        if value not in table:
            known = ", ".join(table)
            raise UnsupportedError(
                f"{self.source} has {self._prefix}{key} {value!r}, which is not one of {known}{nearest(value, table)}",
                param=key,
            )
        return table[value]

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """A list of `count` numbers above 0."""
        _, value = self._find((key,), REQUIRED)
        if not isinstance(value, list) or len(value) != count or not all(map(_positive, value)):
            raise self._refuse(key, value, f"a list of {count} numbers above 0")
        return tuple(float(item) for item in value)

    def entries(self, key: str, count: int, *, table: Mapping[Any, Choice]) -> tuple[Choice, ...]:
        """What `table` has for each of a list's `count` entries."""
        _, value = self._find((key,), REQUIRED)
        known = [*table]
        if not isinstance(value, list) or len(value) != count or not all(item in known for item in value):
            raise self._refuse(key, value, f"a list of {count} of {', '.join(map(repr, table))}")
        return tuple(table[item] for item in value)

    def indices(self, key: str, count: int) -> frozenset[int]:
        """A list of whole numbers from 0 to count - 1; absent is none."""
        _, value = self._find((key,), [])
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item < count for item in value):
            raise self._refuse(key, value, f"a list of whole numbers from 0 to {count - 1}")
        return frozenset(value)

    def take(self, key: str, default: Any) -> Any:
        """The key's value as it is, for a reader that checks it itself."""
        return self._find((key,), default)[1]

    def skip(self, *keys: str) -> None:
        """Take keys of a section as read that change nothing in the result."""
        self._read.update(keys)

    def shared_out(self, total: int, heads: int, key: str) -> int:
        """The width of a head, where heads fill `total`. Raises FormatError when they do not; key: the heads'."""
        if total % heads:
            raise FormatError(f"{self.source} has {key} {heads}, which does not divide the width {total}", param=key)
        return total // heads

    def section(self, *keys: str) -> ConfigReader | None:
        """A reader of the object under the first of `keys` that is there, or None; `finish` checks it too."""
        key, value = self._find(keys, {})
        if not isinstance(value, dict):
            raise self._refuse(key, value, "an object")
        if not self.has(key):
            return None
        if key not in self._sections:
            prefix = f"{self._prefix}{key}."
            self._sections[key] = ConfigReader(value, self.source, ignore=self._ignore, prefix=prefix)
        return self._sections[key]

    def neutral(self, values: Mapping[str, tuple[Any, ...]]) -> None:
        """Keys that are only accepted, null aside, with values that switch nothing on."""
        for key, accepted in values.items():
            self._read.add(key)
            if self.has(key) and not any(type(self.raw[key]) is type(ok) and self.raw[key] == ok for ok in accepted):
                raise UnsupportedError(
                    f"{self.source} has {self._prefix}{key} {brief(self.raw[key])}, which is not supported; "
                    f"--ignore-config-key {key} loads the model without it",
                    param=key,
                )

    def finish(self, harmless: Collection[str]) -> None:
        """Refuse the first key that was neither read nor is harmless, here and in the sections."""
        known = self._read | set(harmless)
        for key in self.raw:
            if key not in known:
                raise UnknownNameError(
                    f"{self.source} has the key {self._prefix + key!r}, which this model family does not know"
                    f"{nearest(key, known) or ';'} --ignore-config-key {key} loads the model without it",
                    param=key,
                )
        for section in self._sections.values():
            section.finish(())

    def _find(self, keys: Iterable[str], default: Any) -> tuple[str, Any]:
        keys = tuple(keys)
        self._read.update(keys)
        present = [key for key in keys if self.has(key)]
        if not present:
            if isinstance(default, Required):
                raise FormatError(f"{self.source} lacks the field {self._prefix + keys[0]!r}; add it", param=keys[0])
            return keys[0], default
        for other in present[1:]:
            if self.raw[other] != self.raw[present[0]]:
                raise FormatError(
                    f"{self.source} has {present[0]} {brief(self.raw[present[0]])} but {other} "
                    f"{brief(self.raw[other])}, two names of one field; remove the wrong one",
                    param=other,
                )
        return present[0], self.raw[present[0]]

    def _refuse(self, key: str, value: Any, wanted: str) -> FormatError:
        return FormatError(f"{self.source} has {self._prefix}{key} {brief(value)}; it must be {wanted}", param=key)


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and 1e-30 <= value <= 1e30
