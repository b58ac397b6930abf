"""How models write tool calls and thoughts into their text, and how they are read out again while it streams.

The form is read off the chat template, which holds the marks that its model was trained on, never off a name. A
template that knows no tools gets the most common form (Hermes: `<tool_call>{"name": …, "arguments": …}</tool_call>`),
told in a system message. A call's arguments are passed on as they come, not when the call is complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

THINK, THINK_END = "<think>", "</think>"


@dataclass(frozen=True)
class ToolForm:
    """start and end: the marks around calls; start empty: a call is the whole answer; end empty: calls end the answer.

    arguments: the key of a call's arguments. listed: the marks hold a JSON list of calls, not one.
    """

    start: str
    end: str
    arguments: str = "arguments"
    listed: bool = False


HERMES = ToolForm("<tool_call>", "</tool_call>")
FORMS = (
    ToolForm("[TOOL_CALLS]", "", listed=True),  # Mistral
    ToolForm("<|tool_call|>", "<|/tool_call|>", listed=True),  # Phi-4-mini
    ToolForm("<|tool_call|>", "", listed=True),  # Granite 3
    HERMES,
)
JSON_ANSWER = ToolForm("", "", arguments="parameters")  # LLaMA 3


def form_of(template: str | None) -> ToolForm | None:
    """The form that a chat template's own text shows; None where it knows no tools."""
    if template is None or "tools" not in template:
        return None
    for form in FORMS:
        if form.start in template and form.end in template:
            return form
    return JSON_ANSWER if '"parameters"' in template else HERMES


def thinks(template: str | None) -> bool:
    """Whether the template's model writes its thoughts between <think> and </think>."""
    return template is not None and THINK in template


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """Text of the model's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call begins; calls of an answer are numbered from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of a call's arguments, as JSON text."""

    index: int
    text: str


Piece = Content | Thought | CallStarted | CallArguments


class AnswerReader:
    """Takes an answer's text as it comes and gives its pieces. form None: no calls. thinking: whether to look for
    thoughts; opened: the prompt ended inside them."""

    def __init__(self, form: ToolForm | None, *, thinking: bool = False, opened: bool = False) -> None:
        self._form = form
        self._marks = ([form.start] if form and form.start else []) + ([THINK] if thinking else [])
        self._held = ""
        self._call: _CallReader | None = None
        self._calls = 0
        self._thinking = opened
        self._at_start = True
        self._after_mark = opened

    @property
    def thinking(self) -> bool:
        """Whether what was read last is a thought that goes on."""
        return self._thinking

    def push(self, text: str) -> list[Piece]:
        """The pieces that this text completes."""
        self._held += text
        return list(self._pieces(final=False))

    def flush(self) -> list[Piece]:
        """What is held back when the answer ends; a call that is no call comes out as text."""
        return list(self._pieces(final=True))

    def _pieces(self, *, final: bool) -> Iterator[Piece]:
        while self._held:
            before = len(self._held), self._call, self._thinking
            if self._call is not None:
                yield from self._read_call(self._call, final)
            elif self._thinking:
                yield from self._read_thought(final)
            else:
                yield from self._read_content(final)
            if (len(self._held), self._call, self._thinking) == before:
                break
        if final and self._call is not None:
            yield from self._abandoned(self._call)

    def _read_content(self, final: bool) -> Iterator[Piece]:
        if self._at_start and self._form is not None and not self._form.start:
            head = self._held.lstrip()
            if not head and not final:
                return
            if head.startswith("{"):
                self._held = head
                self._call = _CallReader(self._form, self._calls)
                return
        found = [(at, mark) for mark in self._marks if (at := self._held.find(mark)) >= 0]
        if found:
            at, mark = min(found)
            yield from self._content(self._held[:at].rstrip() if mark != THINK or at else "")
            self._held = self._held[at + len(mark) :]
            self._after_mark = True
            if mark == THINK:
                self._thinking = True
            else:
                assert self._form is not None
                self._call = _CallReader(self._form, self._calls)
            return
        keep = 0 if final else _begun(self._held, self._marks)
        if not final and self._marks:  # blanks before a mark are not part of the text
            keep = max(keep, len(self._held) - len(self._held[: len(self._held) - keep].rstrip()))
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        yield from self._content(text)

    def _content(self, text: str) -> Iterator[Piece]:
        if self._after_mark:
            text = text.lstrip("\n")
        if text:
            self._at_start = self._after_mark = False
            yield Content(text)

    def _read_thought(self, final: bool) -> Iterator[Piece]:
        at = self._held.find(THINK_END)
        keep = 0 if final else _begun(self._held, [THINK_END])
        text = self._held[:at] if at >= 0 else self._held[: len(self._held) - keep]
        self._held = self._held[at + len(THINK_END) :] if at >= 0 else self._held[len(self._held) - keep :]
        if self._after_mark:
            text = text.lstrip("\n")
        if text:
            self._after_mark = False
            yield Thought(text)
        if at >= 0:
            self._thinking = False
            self._after_mark = True

    def _read_call(self, call: _CallReader, final: bool) -> Iterator[Piece]:
        yield from call.push(self._held)
        self._held = ""
        if call.ended:
            self._calls = call.next_index
            self._call, self._held = None, call.rest
            self._after_mark, self._at_start = True, False
            if call.broken is not None:
                self._after_mark = False
                yield Content(call.broken)

    def _abandoned(self, call: _CallReader) -> Iterator[Piece]:
        self._call = None
        text = call.unread()
        if text:
            yield Content(text)


class _CallReader:
    """What follows a start mark, up to the end mark: one call or several."""

    def __init__(self, form: ToolForm, index: int) -> None:
        self.next_index = index
        self.ended = False
        self.rest = ""
        self.broken: str | None = None
        """Text that is no call after all."""
        self._form = form
        self._text = ""
        self._skipped = ""
        self._value: _Span | None = None
        self._closing = False
        self._bare = False
        self._read_any = False
        self._head = re.compile(
            r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=[{\["])', re.DOTALL
        )
        self._bare_head = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\][\w-]*)?\s*(?:\[ARGS\]\s*)?(?=\{)")

    def push(self, text: str) -> Iterator[Piece]:
        self._text += text
        while not self.ended:
            before = len(self._text), self._value, self._closing
            if self._value is not None:
                yield from self._read_value(self._value)
            elif self._closing:
                self._close_object()
            else:
                yield from self._read_head()
            if (len(self._text), self._value, self._closing) == before:
                return

    def unread(self) -> str:
        """What was held back, with its mark, when the answer ends inside a call."""
        if self._read_any or self._value is not None or self._closing:
            return ""
        return self._form.start + self._skipped + self._text

    def _skip(self, characters: str) -> None:
        rest = self._text.lstrip(characters)
        self._skipped += self._text[: len(self._text) - len(rest)]
        self._text = rest

    def _read_head(self) -> Iterator[Piece]:
        start, end = self._form.start, self._form.end
        self._skip(" \t\r\n")
        if start and not end and self._text.startswith(start):  # some repeat the mark before each call
            self._text = self._text[len(start) :]
        if self._text and (end or start).startswith(self._text) and len(self._text) > 1:
            return
        between = "[]" if self._form.listed else ";" if not start and self._read_any else ""
        self._skip(" \t\r\n," + between)
        if end and self._text.startswith(end):
            self._finish(self._text[len(end) :])
            return
        if not self._text or (end or start).startswith(self._text):
            return
        if self._text[0] == "{":
            match = self._head.match(self._text) if self._form.start else None
            if match:
                self._bare = False
                yield from self._start(json.loads(match[1], strict=False), match.end())
            else:
                yield from self._read_whole()
            return
        match = self._bare_head.match(self._text) if not end else None
        if match:
            self._bare = True
            yield from self._start(match[1], match.end())
        elif end or not re.fullmatch(r"[\w.-]+\s*(\[[\w\]-]*)*\s*", self._text):
            self._break()

    def _start(self, name: str, at: int) -> Iterator[Piece]:
        yield CallStarted(self.next_index, name)
        self._value = _Span(is_text=self._text[at] == '"')
        self._text = self._text[at:]

    def _read_value(self, value: _Span) -> Iterator[Piece]:
        size = value.push(self._text)
        part, self._text = self._text[:size], self._text[size:]
        if value.is_text:  # arguments as a JSON text of JSON: told when complete
            value.kept += part
            part = _text_of(value.kept) if value.complete else ""
        if part:
            yield CallArguments(self.next_index, part)
        if value.complete:
            self._value, self._closing, self._read_any = None, not self._bare, True
            self.next_index += 1

    def _close_object(self) -> None:
        """Skip to behind the brace that closes the call."""
        at = self._text.find("}")
        if at >= 0:
            self._text, self._closing = self._text[at + 1 :], False
            self._after_object()
        else:
            self._text = ""

    def _read_whole(self) -> Iterator[Piece]:
        """A call in another order of keys, or without arguments: read when it is complete."""
        span = _Span()
        size = span.push(self._text)
        if not span.complete:
            return
        call = _call_in(self._text[:size])
        if call is None:
            self._break()
            return
        name, arguments = call
        self._text = self._text[size:]
        self._read_any = True
        yield CallStarted(self.next_index, name)
        yield CallArguments(self.next_index, arguments)
        self.next_index += 1
        self._after_object()

    def _after_object(self) -> None:
        if not self._form.start and self._text.strip(" \t\r\n;,"):
            self._text = self._text.lstrip(" \t\r\n;,")
            if not self._text.startswith("{"):
                self._finish(self._text)

    def _break(self) -> None:
        self.broken = ("" if self._read_any else self._form.start) + self._skipped + self._text
        self._finish("")

    def _finish(self, rest: str) -> None:
        self.ended, self.rest, self._text = True, rest, ""


class _Span:
    """Finds where a JSON object, list or text ends, without understanding it. is_text: it is a text."""

    def __init__(self, *, is_text: bool = False) -> None:
        self.is_text = is_text
        self.complete = False
        self.kept = ""
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def push(self, text: str) -> int:
        """How many of these characters belong to it."""
        for at, character in enumerate(text):
            if self._in_text:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_text = False
            elif character == '"':
                self._in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
            if not self._in_text and self._depth <= 0:
                self.complete = True
                return at + 1
        return len(text)


def _begun(text: str, marks: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a mark."""
    longest = max(map(len, marks), default=0)
    for size in range(min(len(text), longest - 1), 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return size
    return 0


def _text_of(quoted: str) -> str:
    try:
        return str(json.loads(quoted, strict=False))
    except ValueError:
        return quoted


def _call_in(text: str) -> tuple[str, str] | None:
    try:
        call = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict):
        return None
    function = call.get("function", call)  # some write OpenAI's own shape
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments", function.get("parameters", {}))
    return function["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
