"""Chat templates: Jinja programs that a model brings along, run in a sandbox with limits on time and size.

A template is somebody else's program. Jinja's immutable sandbox keeps it from attributes, files and our data; on top of
that every loop step and call looks at the clock, and every operation that can multiply a text is bounded beforehand.
The language is that of `transformers`: trimmed blocks, loop controls, `raise_exception`, `strftime_now`, `tojson`
without HTML escapes, `{% generation %}`.
"""

from __future__ import annotations

import datetime
import json
import operator
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from octavo.errors import OctavoError, nearest

TIME_LIMIT = 2.0  # seconds
SIZE_LIMIT = 1 << 20  # characters of output, or of any text on the way; items of any list
_deadline: ContextVar[float] = ContextVar("deadline")


class _LimitError(Exception):
    """The template ran into one of our limits; its text completes `the chat template …`."""


class _RaisedError(Exception):
    """The template itself refused, through raise_exception."""


def choose_template(templates: Mapping[str, str], name: str | None, *, has_tools: bool) -> str:
    """The name of the template to use. Raises OctavoError when there is none, or none of that name."""
    if not templates:
        raise OctavoError(
            "the model has no chat template, so it cannot take messages; give it a plain prompt, or use a model that "
            "is tuned for chat (its name often ends in -Instruct or -Chat)"
        )
    if name is None:
        name = "tool_use" if has_tools and "tool_use" in templates else "default"
        if name not in templates and len(templates) == 1:
            return next(iter(templates))
    if name not in templates:
        known = ", ".join(sorted(templates))
        raise OctavoError(f"the model has no chat template {name!r}, only {known}{nearest(name, templates)}")
    return name


def compile_template(source: str) -> jinja2.Template:
    """Compile a template. Raises OctavoError with the line when it is not valid Jinja."""
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise OctavoError(f"the chat template is not valid at line {error.lineno}: {error.message}") from error
    except (RecursionError, SyntaxError, MemoryError, OverflowError) as error:
        raise OctavoError(f"the chat template cannot be compiled: {type(error).__name__}") from error


def run_template(template: jinja2.Template, variables: Mapping[str, Any]) -> str:
    """Render. Raises OctavoError, with the cause, when the template refuses, fails or runs into a limit."""
    token = _deadline.set(time.monotonic() + TIME_LIMIT)
    try:
        parts, size = [], 0
        for part in template.generate(dict(variables)):
            size += len(part)
            if size > SIZE_LIMIT:
                raise _LimitError(f"makes over {SIZE_LIMIT >> 20} MiB of text")
            _check_clock()
            parts.append(part)
        return "".join(parts)
    except _RaisedError as error:
        raise OctavoError(f"the chat template refuses these messages: {error}", param="messages") from error
    except _LimitError as error:
        raise OctavoError(f"the chat template {error}; it was stopped") from error
    except SecurityError as error:
        raise OctavoError(f"the chat template does what is not allowed, and was stopped: {error}") from error
    except jinja2.UndefinedError as error:
        raise OctavoError(f"the chat template uses what these messages lack: {error}", param="messages") from error
    except (RecursionError, MemoryError) as error:
        raise OctavoError(f"the chat template nests or grows without end ({type(error).__name__})") from error
    except Exception as error:  # somebody else's program may raise anything
        raise OctavoError(f"the chat template failed with {type(error).__name__}: {error}") from error
    finally:
        _deadline.reset(token)


def _check_clock() -> None:
    if time.monotonic() > _deadline.get():
        raise _LimitError(f"runs for over {TIME_LIMIT:g} s")


def _bounded(value: Any) -> Any:
    """The value, when it is not a text or list beyond the limit."""
    if isinstance(value, (str, bytes, list, tuple, dict)) and len(value) > SIZE_LIMIT:
        raise _LimitError(f"makes a {type(value).__name__} of {len(value)} items on the way")
    if isinstance(value, int) and value.bit_length() > SIZE_LIMIT:
        raise _LimitError("makes a number of over a million bits")
    return value


def _ticking(iterable: Iterable[Any]) -> Iterator[Any]:
    for item in iterable:
        _check_clock()
        yield item


def _concatenated(parts: tuple[Any, ...]) -> str:
    return str(_bounded("".join(str(part) for part in parts)))


def _check_arguments(function: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    """Refuse calls whose result could be far larger than what goes in: widths, counts, replacements."""
    values = [*arguments, *keywords.values()]
    name = getattr(function, "__name__", "").removeprefix("do_").removeprefix("safe_")
    if name == "tojson":
        return
    numbers = [abs(value) for value in values if isinstance(value, int)]
    if max(numbers, default=0) > SIZE_LIMIT:
        raise _LimitError(f"calls {name} with a number above {SIZE_LIMIT}")
    owner = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
    values.insert(0, getattr(owner, "__self__", None))
    texts = [value for value in values if isinstance(value, (str, list, tuple))]
    if name in ("format", "format_map"):
        _check_widths(" ".join(text for text in texts if isinstance(text, str) and ("{" in text or "%" in text)), texts)
    if name in ("replace", "join", "expandtabs", "indent", "translate"):
        sizes = sorted((_whole_size(text) for text in texts), reverse=True)
        growth = (sizes[0] if sizes else 0) * max([*sizes[1:2], *numbers, 1])
        if growth > 64 * SIZE_LIMIT:
            raise _LimitError(f"calls {name} on texts that could grow to {growth} characters")


def up_to_content(rendered: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """A rendered conversation without what stands after its last message's words.

    Raises OctavoError where the template does not write them as they are.
    """
    content = messages[-1].get("content") if messages else None
    words = content.strip() if isinstance(content, str) else ""
    place = rendered.rfind(words) if words else -1
    if not isinstance(content, str) or place < 0:
        raise OctavoError("the last message has no words that this chat template lets an answer go on with")
    kept = content.lstrip()  # the white space after them, unless the template drops it
    return rendered[: place + len(kept if rendered.startswith(kept, place) else words)]


def _whole_size(value: str | list[Any] | tuple[Any, ...]) -> int:
    if isinstance(value, str):
        return len(value)
    return sum(len(item) if isinstance(item, str) else 1 for item in value)


def _check_widths(form: str, values: Iterable[Any] = ()) -> None:
    """Refuse a format whose field is wider than the limit; widths can also come in as values of nested fields."""
    wide = any(isinstance(value, str) and value.isdigit() and len(value) > 6 for value in values)
    if re.search(r"\d{7,}|%[^a-zA-Z%]*\*", form) or (wide and re.search(r"\{[^{}]*\{", form)):
        raise _LimitError("formats a field that is too wide")


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Any, operator_: str, left: Any, right: Any) -> Any:
        _check_clock()
        if operator_ == "*":
            for text, count in ((left, right), (right, left)):
                if isinstance(text, (str, list, tuple)) and isinstance(count, int) and len(text) * count > SIZE_LIMIT:
                    raise _LimitError(f"repeats a text {count} times")
        whole = isinstance(left, int) and isinstance(right, int)
        if operator_ == "**" and whole and left.bit_length() * max(right, 0) > SIZE_LIMIT:
            raise _LimitError("makes a number of over a million bits")
        if operator_ == "%" and isinstance(left, str):
            _check_widths(left)
        return _bounded(_OPERATORS[operator_](left, right))

    def call(self, context: Any, function: Any, /, *arguments: Any, **keywords: Any) -> Any:
        _check_clock()
        _check_arguments(function, arguments, keywords)
        return _bounded(super().call(context, function, *arguments, **keywords))

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        # Jinja would let an unsafe attribute print as nothing.
        raise SecurityError(f"the attribute {attribute!r} of a {type(obj).__name__} is out of reach")

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Jinja's tree with our checks in it: at each step of each loop, and on each joined text."""
        tree: nodes.Template = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_ticking", [], [], None, None)
        _bound_joins(tree)
        return tree


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "*": operator.mul,
    "**": operator.pow,
    "%": operator.mod,
}


def _bound_joins(node: nodes.Node) -> None:
    """Turn each `a ~ b` below a node into the filter that bounds what it makes."""
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            setattr(node, field, _bounded_join(value))
        elif isinstance(value, list):
            setattr(node, field, [_bounded_join(item) if isinstance(item, nodes.Node) else item for item in value])


def _bounded_join(node: nodes.Node) -> nodes.Node:
    _bound_joins(node)
    if isinstance(node, nodes.Concat):
        return nodes.Filter(nodes.Tuple(node.nodes, "load"), "_concatenated", [], [], None, None)
    return node


class _Generation(Extension):
    """`{% generation %}` … `{% endgeneration %}` marks the assistant's words for training; here it is its content."""

    tags = {"generation"}  # noqa: RUF012 - the library's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _guarded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter with the checks of a call; it keeps the marks by which Jinja passes it context or environment."""

    def guarded(*arguments: Any, **keywords: Any) -> Any:
        _check_clock()
        passes = bool(getattr(function, "jinja_pass_arg", None))
        _check_arguments(function, arguments[1:] if passes else arguments, keywords)
        return _bounded(function(*arguments, **keywords))

    guarded.__name__ = name
    guarded.__dict__.update(getattr(function, "__dict__", {}))
    return guarded


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    separators, sort_keys = options.pop("separators", None), options.pop("sort_keys", False)
    if options:
        raise _RaisedError(f"tojson has no option {next(iter(options))!r}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse_file(name: str) -> None:
    raise SecurityError(f"it asks for the file {name!r}")


def _raise_exception(message: str) -> None:
    raise _RaisedError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _environment() -> _Environment:
    loader = jinja2.FunctionLoader(_refuse_file)
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], loader=loader
    )
    environment.filters["tojson"] = _tojson
    environment.filters = {name: _guarded(name, function) for name, function in environment.filters.items()}
    environment.filters.update(_ticking=_ticking, _concatenated=_concatenated)
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    del environment.globals["lipsum"]  # random text of any length
    return environment
