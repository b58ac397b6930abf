"""The items that go into a response: messages, calls of functions and their results, and thoughts.

Validated as `serve/fields.py` says, kept as plain objects with ids, and turned into the messages that a chat template
reads. Items of tools that this server does not have are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from octavo.generate.lm import Message
from octavo.serve.fields import Refused, Strict, Text, unsupported, wrong
from octavo.serve.responses.mcp import declined, result_of
from octavo.serve.state import new_id

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Strict):
    """A piece of text. Accepted: annotations and logprobs of an earlier answer; where prompts may be cached."""

    type: Literal["input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"]
    text: Text | None = None
    refusal: Text | None = None
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_its_text(self) -> Self:
        if (self.refusal if self.type == "refusal" else self.text) is None:
            raise wrong("text", "a part holds its text")
        return self

    @property
    def said(self) -> str:
        """The text, whichever field holds it."""
        return (self.refusal if self.type == "refusal" else self.text) or ""


Parts = Text | list[InputText]


class InputMessage(Strict):
    """What somebody said. Accepted: phase."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts
    id: Text | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(Strict):
    """A call that an earlier answer made."""

    refused: ClassVar[Refused] = {"namespace": (), "caller": (), "async": (False,)}

    type: Literal["function_call"]
    call_id: Text
    name: Text
    arguments: Text
    id: Text | None = None
    status: Status | None = None


class FunctionCallOutput(Strict):
    """What the call gave. Accepted: the function's name, which the call has said."""

    refused: ClassVar[Refused] = {"caller": (), "namespace": ()}

    type: Literal["function_call_output"]
    call_id: Text
    output: Parts
    name: Text | None = None
    id: Text | None = None
    status: Status | None = None


class Reasoning(Strict):
    """Thoughts of an earlier answer. encrypted_content is not ours, so it is refused."""

    refused: ClassVar[Refused] = {"encrypted_content": ()}

    type: Literal["reasoning"]
    summary: list[InputText] = Field(default_factory=list)
    content: list[InputText] = Field(default_factory=list)
    id: Text | None = None
    status: Status | None = None


class FileSearchCall(Strict):
    """A search that an earlier answer made. Its passages are not told again: the answer has what rests on them."""

    type: Literal["file_search_call"]
    id: Text
    queries: list[Text]
    status: Literal["in_progress", "searching", "completed", "incomplete", "failed"] = "completed"
    results: list[Any] | None = None


class McpListTools(Strict):
    """What an MCP server offered; the model is told of what it offers now."""

    type: Literal["mcp_list_tools"]
    id: Text
    server_label: Text
    tools: list[Any]
    error: Any = None


class McpCall(Strict):
    """A call of an MCP server's tool that an earlier answer made, with its result."""

    type: Literal["mcp_call"]
    id: Text
    server_label: Text
    name: Text
    arguments: Text
    approval_request_id: Text | None = None
    output: Text | None = None
    error: Any = None
    status: Literal["in_progress", "completed", "incomplete", "calling", "failed"] = "completed"


class McpApprovalRequest(Strict):
    """The question whether a tool of an MCP server may be called."""

    type: Literal["mcp_approval_request"]
    id: Text
    server_label: Text
    name: Text
    arguments: Text
    status: Status | None = None


class McpApprovalResponse(Strict):
    """The client's answer to it."""

    type: Literal["mcp_approval_response"]
    approval_request_id: Text
    approve: bool
    reason: Text | None = None
    id: Text | None = None


class ItemReference(Strict):
    """An item that the server keeps, by its id."""

    type: Literal["item_reference"]
    id: Text


KINDS: Final[Mapping[str, type[Strict]]] = {
    "message": InputMessage,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": Reasoning,
    "file_search_call": FileSearchCall,
    "mcp_list_tools": McpListTools,
    "mcp_call": McpCall,
    "mcp_approval_request": McpApprovalRequest,
    "mcp_approval_response": McpApprovalResponse,
    "item_reference": ItemReference,
}
PREFIXES: Final = {
    "message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs", "file_search_call": "fs",
    "mcp_approval_response": "mcprs",
}  # fmt: skip


def kind_of(value: Any) -> str:
    """The type that an item says it has; a bare message says none. Complains of one that this server lacks."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if kind is None:
        return "message"
    if not isinstance(kind, str) or kind not in KINDS:
        raise unsupported("type", f"{str(kind)[:40]!r} is no item that this server takes: {', '.join(KINDS)}")
    return kind


def check_item(value: Any) -> Any:
    """One input item, validated by its own type."""
    if not isinstance(value, dict):
        raise wrong(None, "an item is an object")
    return TypeAdapter(KINDS[kind_of(value)]).validate_python(value)


def as_objects(items: Iterable[Strict]) -> list[dict[str, Any]]:
    """Items as they are kept: plain, with ids and the parts' types."""
    kept = []
    for item in items:
        data = item.model_dump(exclude_none=True)
        if "id" not in data:  # where it is required it has one
            data["id"] = new_id(PREFIXES[data["type"]])
        data.setdefault("status", "completed")
        if data["type"] == "message":
            data["content"] = _parts(data["content"], "output_text" if data["role"] == "assistant" else "input_text")
        kept.append(data)
    return kept


def messages_of(items: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Items as the messages that chat templates read; an answer's thoughts, text and calls are one message."""
    messages: list[dict[str, Any]] = []
    asked: dict[str, Mapping[str, Any]] = {}
    for item in items:
        kind = item["type"]
        if kind == "message":
            role = "system" if item["role"] == "developer" else item["role"]
            _say(messages, role, _text(item["content"]))
        elif kind == "function_call":
            _assistant(messages).setdefault("tool_calls", []).append(_call(item, item["call_id"]))
        elif kind == "function_call_output":
            output = item["output"]
            text = output if isinstance(output, str) else _text(output)
            messages.append({"role": "tool", "content": text, "tool_call_id": item["call_id"]})
        elif kind == "mcp_call":
            _called(messages, item, item["id"], result_of(item))
        elif kind == "mcp_approval_request":
            asked[item["id"]] = item
        elif kind == "mcp_approval_response" and not item["approve"] and item["approval_request_id"] in asked:
            _called(messages, asked[item["approval_request_id"]], item["approval_request_id"], declined(item))
        elif kind == "reasoning":
            thought = _text(item.get("content") or item.get("summary") or [])
            if thought:
                messages.append({"role": "assistant", "content": "", "reasoning_content": thought, "open": True})
    for message in messages:
        message.pop("open", None)
    return list(messages)


def _say(messages: list[dict[str, Any]], role: str, text: str) -> None:
    if role == "assistant" and messages and messages[-1].pop("open", False):
        messages[-1]["content"] = text
    else:
        messages.append({"role": role, "content": text})


def _assistant(messages: list[dict[str, Any]]) -> dict[str, Any]:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


def _called(messages: list[dict[str, Any]], item: Mapping[str, Any], call_id: str, result: str) -> None:
    """A call together with what it gave."""
    _assistant(messages).setdefault("tool_calls", []).append(_call(item, call_id))
    messages.append({"role": "tool", "content": result, "tool_call_id": call_id})


def _call(item: Mapping[str, Any], call_id: str) -> dict[str, Any]:
    try:
        arguments = json.loads(item["arguments"] or "{}")
    except (ValueError, RecursionError):
        arguments = item["arguments"]
    return {"id": call_id, "type": "function", "function": {"name": item["name"], "arguments": arguments}}


def _parts(content: str | list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    if not isinstance(content, str):
        return [{"annotations": [], **part} if part["type"] == "output_text" else part for part in content]
    return [{"type": kind, "text": content, **({"annotations": []} if kind == "output_text" else {})}]


def _text(content: str | Iterable[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in content)
