"""Tools in a chat: what a request says of them, what the model is told, and how its calls are written for clients.

The model's own template says how; a model whose template knows no tools is told in a system message. A call that must
come is held to the tools' own schemas token by token, so that it is valid whatever the model.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from octavo.generate.constrain import JSON_OPTIONS, Constraint, Lark
from octavo.generate.lm import Message, Request
from octavo.serve.fields import Refused, Strict, Text, unsupported, wrong
from octavo.text.tokenizer import Tokenizer
from octavo.text.tool_calls import HERMES, THINK, AnswerReader, ToolForm, form_of, thinks

FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]

TOLD = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
"""What a model is told whose template knows no tools."""


class Function(Strict):
    """A function that the model may call. strict makes no difference: a call that must come always keeps its schema."""

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool = False

    def for_template(self) -> dict[str, Any]:
        """The tool as chat templates read it."""
        function = {"name": self.name, "description": self.description or "", "parameters": self.of_arguments}
        return {"type": "function", "function": function}

    @property
    def of_arguments(self) -> dict[str, Any]:
        """Of the arguments; a function without one takes none."""
        return self.parameters if self.parameters is not None else {"type": "object", "properties": {}}


class Tool(Strict):
    """OpenAI's wrapper."""

    refused: ClassVar[Refused] = {"custom": ()}

    type: Literal["function"]
    function: Function

    @field_validator("type", mode="before")
    @classmethod
    def _functions_only(cls, value: Any) -> Any:
        if value != "function" and isinstance(value, str):
            raise unsupported(None, f"{value[:40]!r} is not a tool that this server has; describe functions")
        return value


class Named(Strict):
    """A function by its name."""

    name: FunctionName


class NamedTool(Strict):
    """A tool by its name."""

    type: Literal["function"]
    function: Named


class AllowedTools(Strict):
    """Some of the tools, which may or must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1)]


class AllowedToolsChoice(Strict):
    """OpenAI's wrapper."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice


class CalledFunction(Strict):
    """What an earlier answer called. arguments: JSON text."""

    name: Text
    arguments: Text


class ToolCall(Strict):
    """A call of an earlier answer."""

    refused: ClassVar[Refused] = {"custom": (), "index": (*range(128),)}

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction

    def for_template(self) -> dict[str, Any]:
        """The call as chat templates read it: its arguments as an object."""
        try:
            arguments = json.loads(self.function.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = self.function.arguments
        return {"id": self.id, "type": "function", "function": {"name": self.function.name, "arguments": arguments}}


@dataclass(frozen=True)
class Tools:
    """The tools of one request. functions: those that may be called; mode required: at least one call must come.

    shown: all that the model is told of. parallel: whether several calls may come in one answer.
    """

    shown: tuple[Function, ...]
    functions: tuple[Function, ...]
    mode: Literal["none", "auto", "required"]
    parallel: bool

    @staticmethod
    def of(tools: Sequence[Function], choice: ToolChoice | None, *, parallel: bool) -> Tools:
        """Settle what a request asks for. Raises the complaint that names the field at fault."""
        by_name = {tool.name: tool for tool in tools}
        if len(by_name) < len(tools):
            raise wrong("tools", "two functions have one name")
        if choice in ("required", "auto") and not tools:
            raise wrong("tool_choice", "it is only allowed when tools are given")
        if isinstance(choice, NamedTool):
            names, mode = [choice.function.name], "required"
        elif isinstance(choice, AllowedToolsChoice):
            names, mode = [tool.function.name for tool in choice.allowed_tools.tools], choice.allowed_tools.mode
        else:
            names, mode = list(by_name), choice or ("auto" if tools else "none")
        missing = [name for name in names if name not in by_name]
        if missing:
            raise wrong("tool_choice", f"{missing[0]!r} is none of the tools")
        single = isinstance(choice, NamedTool) or not parallel
        allowed = tuple(by_name[name] for name in names)
        return Tools(tuple(tools), allowed, mode, not single)  # type: ignore[arg-type]

    @property
    def used(self) -> bool:
        """Whether an answer may hold calls."""
        return self.mode != "none"

    def form(self, template: str | None) -> ToolForm:
        """How the model writes calls."""
        return form_of(template) or HERMES

    def variables(self, template: str | None) -> dict[str, Any]:
        """What the chat template is told."""
        if not self.shown or form_of(template) is None:
            return {}
        return {"tools": [function.for_template() for function in self.shown]}

    def told(self, messages: Sequence[Message], template: str | None) -> list[Message]:
        """The messages, in words that a template without tools can write too."""
        if form_of(template) is not None:
            return list(messages)
        plain = [_in_words(message) for message in messages]
        if not (self.shown and self.used):
            return plain
        described = (json.dumps(function.for_template(), ensure_ascii=False) for function in self.shown)
        text = TOLD.format(tools="\n".join(described))
        if plain and plain[0]["role"] == "system":
            return [{**plain[0], "content": f"{plain[0]['content']}\n\n{text}"}, *plain[1:]]
        return [{"role": "system", "content": text}, *plain]

    def constraint(self, template: str | None, tokenizer: Tokenizer | None) -> Constraint | None:
        """What holds an answer to calls, where one must come."""
        if self.mode != "required":
            return None
        form = self.form(template)
        call = f"%json {json.dumps({**_call_schema(self.functions, form), 'x-guidance': JSON_OPTIONS})}"
        if not form.start:
            return Lark(f"start: call\ncall: {call}", "tools")
        start, end = (_mark(mark, tokenizer) for mark in (form.start, form.end))
        if form.listed:
            more = ' (", " call)*' if self.parallel else ""
            return Lark(f'start: {start} "[" call{more} "]" {end}\ncall: {call}', "tools")
        more = ' ("\\n" one)*' if self.parallel else ""
        return Lark(f'start: one{more}\none: {start} "\\n" call "\\n" {end}\ncall: {call}', "tools")


def reader(tools: Tools, template: str | None, *, opened: bool) -> AnswerReader:
    """What reads an answer. opened: the prompt ended inside the model's thoughts."""
    return AnswerReader(tools.form(template) if tools.used else None, thinking=thinks(template), opened=opened)


def opens_thoughts(tokenizer: Tokenizer | None, request: Request) -> bool:
    """Whether the rendered prompt ends inside the model's thoughts."""
    if tokenizer is None or not thinks(tokenizer.chat_template):
        return False
    return tokenizer.render(request.prompt, **request.template).rstrip().endswith(THINK)  # type: ignore[arg-type]


def new_call_id() -> str:
    """For a call in an answer."""
    return f"call_{secrets.token_hex(12)}"


def _call_schema(functions: Sequence[Function], form: ToolForm) -> dict[str, Any]:
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": function.name}, form.arguments: function.of_arguments},
            "required": ["name", form.arguments],
            "additionalProperties": False,
        }
        for function in functions
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def _mark(mark: str, tokenizer: Tokenizer | None) -> str:
    """A mark in a grammar: the special token, where it is one, else its text."""
    token = None if tokenizer is None else tokenizer.token_id(mark)
    if tokenizer is not None and token in tokenizer.special_ids:
        return f"<[{token}]>"
    return json.dumps(mark, ensure_ascii=False) if mark else ""


def _in_words(message: Message) -> Message:
    """A message without tools of its own: calls and their results as text."""
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    if not message.get("tool_calls"):
        return message
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message["tool_calls"]]
    written = "\n".join(f"{HERMES.start}\n{call}\n{HERMES.end}" for call in calls)
    text = f"{message['content']}\n{written}" if message["content"] else written
    return {"role": "assistant", "content": text}
