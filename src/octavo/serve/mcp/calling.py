"""A conversation in which the model calls tools of MCP servers: each call shown, confirmed, made, and answered.

Works with any `LanguageModel`: one whose template knows tools is told of them by it, another in words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from octavo.errors import OctavoError, nearest
from octavo.generate.lm import Delta, Event, Finished, LanguageModel, Message, Request, Stream
from octavo.serve.mcp.client import McpClient, McpTool
from octavo.serve.tools import Function, Tools, new_call_id, opens_thoughts, reader
from octavo.text.tool_calls import AnswerReader, CallArguments, CallStarted, Content, Piece

DECLINED = "The user declined this call."


@dataclass
class Call:
    """A call of an answer. arguments: JSON text."""

    id: str
    name: str
    arguments: str


class Toolbox:
    """The tools of a client, as a model is told of them."""

    def __init__(self, client: McpClient) -> None:
        self._client = client
        self._tools = {tool.name: tool for tool in client.tools}
        functions = [
            Function.model_construct(name=tool.name, description=tool.description, parameters=tool.parameters)
            for tool in client.tools
        ]
        self._offered = Tools.of(functions, None, parallel=True)

    def ask(self, model: LanguageModel, request: Request, messages: Sequence[Message]) -> CallingStream:
        """Answer the messages; the stream's text is what the model says, and its `calls` what it calls."""
        template = None if model.tokenizer is None else model.tokenizer.chat_template
        made = replace(
            request,
            prompt=self._offered.told(messages, template),
            template={**request.template, **self._offered.variables(template)},
            skip_special=False,  # the marks around a call are special tokens in some models
        )
        opened = opens_thoughts(model.tokenizer, made)
        return CallingStream(model.stream(made), reader(self._offered, template, opened=opened))

    def answer(self, call: Call, consents: Callable[[McpTool, str], bool]) -> str:
        """What the model is told that the call gave; nothing that goes wrong is more than a sentence to it."""
        tool = self._tools.get(call.name)
        if tool is None:
            return f"Error: there is no tool {call.name[:64]!r}{nearest(call.name, self._tools)}"
        if tool.asks and not consents(tool, call.arguments):
            return DECLINED
        try:
            return self._client.call(tool, call.arguments)
        except OctavoError as error:
            return f"Error: {error}"


class CallingStream:
    """An answer's events with the model's words as text; implements `Stream`. calls: complete once it has ended."""

    def __init__(self, stream: Stream, answer: AnswerReader) -> None:
        self._stream = stream
        self._reader = answer
        self.calls: list[Call] = []
        self._events = self._read()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """Stop the model's work."""
        self._stream.close()

    def _read(self) -> Iterator[Event]:
        for event in self._stream:
            if isinstance(event, Delta):
                yield replace(event, text=self._text(self._reader.push(event.text)))
            elif isinstance(event, Finished):
                yield Delta(self._text(self._reader.flush()), ())
                yield event
            else:
                yield event

    def _text(self, pieces: Sequence[Piece]) -> str:
        said = []
        for piece in pieces:
            if isinstance(piece, Content):
                said.append(piece.text)
            elif isinstance(piece, CallStarted):
                self.calls.append(Call(new_call_id(), piece.name, ""))
            elif isinstance(piece, CallArguments):
                self.calls[-1].arguments += piece.text
        return "".join(said)


def answered(text: str, calls: Sequence[Call], results: Sequence[str]) -> list[dict[str, Any]]:
    """The messages of a turn with calls: the assistant's, and a tool's for each."""
    called = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call.arguments)}}
        for call in calls
    ]
    said = {"role": "assistant", "content": text, "tool_calls": called}
    told = [
        {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": result}
        for call, result in zip(calls, results, strict=True)
    ]
    return [said, *told]


def _arguments(text: str) -> Mapping[str, Any] | str:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return found if isinstance(found, dict) else text
