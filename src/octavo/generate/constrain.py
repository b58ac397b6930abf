"""Which texts an answer may be: JSON by a schema, any JSON object, a regular expression, a choice, a Lark grammar.

Plain data that a request carries; `matcher.py` makes of it what says, token by token, which may come next. Unusual:
JSON has no free whitespace but one space after `,` and `:`, because a small model would write blanks for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from octavo.errors import OctavoError

MOST_BYTES: Final = 1 << 16
"""Of a schema, pattern or grammar."""
JSON_OPTIONS: Final[Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "lenient": False,
    "coerce_one_of": False,
}
"""They win over what a schema's own `x-guidance` says, so that none can switch a keyword off."""


@dataclass(frozen=True)
class JsonSchema:
    """JSON that validates against a schema, its properties in the schema's order.

    A keyword that JSON Schema defines and that cannot be kept (uniqueItems, not, …) is refused when it is compiled.
    param, here and below: the field or option that brought it, for error messages.
    """

    schema: Mapping[str, Any]
    param: str = "constraint"

    def __post_init__(self) -> None:
        if not isinstance(self.schema, Mapping):
            raise OctavoError("the JSON schema is not an object", param=self.param)
        _check_size(self._text(), "JSON schema", self.param)

    def grammar(self) -> str:
        """The schema in llguidance's terms."""
        from llguidance import LLMatcher

        try:
            return LLMatcher.grammar_from_json_schema(self._text(), overrides=JSON_OPTIONS)
        except ValueError as error:
            raise refused(str(error), self.param) from None

    def _text(self) -> str:
        try:
            return json.dumps(self.schema, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise refused(f"it is not JSON: {error}", self.param) from None


@dataclass(frozen=True)
class JsonObject:
    """Any JSON object."""

    param: str = "constraint"

    def grammar(self) -> str:
        """The same in llguidance's terms."""
        return JsonSchema({"type": "object"}).grammar()


@dataclass(frozen=True)
class Regex:
    """A text that the pattern matches from end to end: Rust's syntax, which has no look-around or back-references."""

    pattern: str
    param: str = "constraint"

    def __post_init__(self) -> None:
        _check_size(self.pattern, "pattern", self.param)

    def grammar(self) -> str:
        """The pattern in llguidance's terms."""
        from llguidance import LLMatcher

        return LLMatcher.grammar_from_regex(self.pattern)


@dataclass(frozen=True)
class Choice:
    """Exactly one of these texts."""

    texts: tuple[str, ...]
    param: str = "constraint"

    def __post_init__(self) -> None:
        if not self.texts:
            raise OctavoError("there is nothing to choose from; give at least one text", param=self.param)
        _check_size("".join(self.texts), "choice", self.param)

    def grammar(self) -> str:
        """The alternatives in llguidance's terms."""
        from llguidance import LLMatcher

        # JSON's escapes are also the grammar's, but for surrogate pairs, which ensure_ascii would make.
        quoted = (json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f") for text in self.texts)
        return LLMatcher.grammar_from_lark("start: " + " | ".join(quoted))


@dataclass(frozen=True)
class Lark:
    """A text of a context-free grammar, in llguidance's dialect of Lark; its first rule is `start`."""

    text: str
    param: str = "constraint"

    def __post_init__(self) -> None:
        _check_size(self.text, "grammar", self.param)

    def grammar(self) -> str:
        """The grammar in llguidance's terms."""
        from llguidance import LLMatcher

        return LLMatcher.grammar_from_lark(self.text)


Constraint = JsonSchema | JsonObject | Regex | Choice | Lark


def _check_size(text: str, what: str, param: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise OctavoError(f"the {what} holds half of a surrogate pair, which is no character", param=param) from None
    if size > MOST_BYTES:
        raise OctavoError(f"the {what} has {size} bytes; {MOST_BYTES} are allowed", param=param)


def refused(reason: str, param: str) -> OctavoError:
    """One sentence out of llguidance's words, which take several lines and may quote what they were given."""
    words = " ".join(reason.replace("<non-verbose/>", "").split())
    shown = words if len(words) <= 300 else f"{words[:300]} …"
    return OctavoError(f"{param} cannot be used: {shown}", param=param)
