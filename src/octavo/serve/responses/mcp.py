"""The tool `mcp` of responses: tools of MCP servers, offered to the model, called here, their results told to it.

Unusual: the client names a server by the label that the server's operator gave it in `mcp.toml`; no request can bring a
server of its own. A call is made without asking only where both the operator (`allow`) and the request
(`require_approval`) say so; else the response ends with an `mcp_approval_request`, which the next one answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from octavo.errors import OctavoError, nearest
from octavo.serve.errors import invalid
from octavo.serve.fields import Refused, Strict, Text, unsupported
from octavo.serve.mcp.allowed import AllowedServers
from octavo.serve.mcp.calling import DECLINED
from octavo.serve.mcp.client import McpTool
from octavo.serve.state import new_id
from octavo.serve.tools import Function

Object = dict[str, Any]


class ToolNames(Strict):
    """Some of a server's tools."""

    refused: ClassVar[Refused] = {"read_only": (False,)}

    tool_names: list[Text]


class Approvals(Strict):
    """Which calls are asked for, tool by tool; those that it does not name are."""

    always: ToolNames | None = None
    never: ToolNames | None = None


class McpServerTool(Strict):
    """All tools of a server, or some. server_url: only that which the operator gave. Accepted: server_description."""

    refused: ClassVar[Refused] = {
        "headers": ({},), "authorization": (), "connector_id": (), "tunnel_id": (), "defer_loading": (False,),
        "allowed_callers": (["direct"],),
    }  # fmt: skip

    type: Literal["mcp"]
    server_label: Annotated[Text, Field(min_length=1, max_length=64)]
    server_url: Text | None = None
    server_description: Text | None = None
    allowed_tools: list[Text] | ToolNames | None = None
    require_approval: Literal["always", "never"] | Approvals = "always"

    @field_validator("require_approval", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in ("always", "never"):
            raise unsupported(None, f"{value[:40]!r} is neither 'always' nor 'never'")
        return value

    def offers(self, tool: McpTool) -> bool:
        """Whether the model is told of it."""
        names = self.allowed_tools.tool_names if isinstance(self.allowed_tools, ToolNames) else self.allowed_tools
        return names is None or tool.tool in names

    def asks(self, tool: McpTool) -> bool:
        """Whether its calls need the client's approval."""
        if isinstance(self.require_approval, Approvals):
            never = self.require_approval.never
            return tool.asks or never is None or tool.tool not in never.tool_names
        return tool.asks or self.require_approval == "always"


class McpChoice(Strict):
    """A tool of an MCP server must be called; name absent: any of them."""

    type: Literal["mcp"]
    server_label: Text
    name: Text | None = None


class McpOffer:
    """What one request may use. listed: the servers' tools as items of the response."""

    def __init__(self, servers: AllowedServers, asked: Sequence[McpServerTool]) -> None:
        """Asks the servers for their tools, which blocks. Raises ApiError for one that is not allowed."""
        self._servers = servers
        self._tools: dict[str, tuple[McpServerTool, McpTool]] = {}
        self.listed: list[Object] = []
        for place, wanted in enumerate(asked):
            self._check(wanted, place)
            found = [tool for tool in servers.tools(wanted.server_label) if wanted.offers(tool)]
            self.listed.append(_list_item(wanted.server_label, found))
            for tool in found:
                name = f"{tool.server}.{tool.tool}" if tool.name in self._tools else tool.name
                self._tools[name] = (wanted, tool)

    @property
    def functions(self) -> list[Function]:
        """The tools as the model is told of them."""
        return [
            Function.model_construct(name=name, description=tool.description, parameters=tool.parameters)
            for name, (_, tool) in self._tools.items()
        ]

    def names(self, choice: McpChoice) -> list[str]:
        """The tools that a choice lets the model call. Raises ApiError where there is none."""
        found = [
            name
            for name, (_, tool) in self._tools.items()
            if tool.server == choice.server_label and choice.name in (None, tool.tool)
        ]
        if not found:
            raise invalid(f"{(choice.name or choice.server_label)[:60]!r} is none of the tools.", "tool_choice")
        return found

    def item(self, name: str) -> Object | None:
        """The item that a call by that name begins: the call itself or the question whether to make it; None: it is
        no tool of these servers."""
        if name not in self._tools:
            return None
        wanted, tool = self._tools[name]
        said = {"server_label": tool.server, "name": tool.tool, "arguments": ""}
        if wanted.asks(tool):
            return {"type": "mcp_approval_request", **said}
        return {"type": "mcp_call", **said, "approval_request_id": None, "output": None, "error": None}

    def call(self, item: Object) -> None:
        """Make a call and put what it gave into its item. Blocks; nothing that goes wrong is more than its error."""
        tools = [tool for _, tool in self._tools.values() if tool.server == item["server_label"]]
        tool = next((tool for tool in tools if tool.tool == item["name"]), None)
        try:
            if tool is None:
                raise OctavoError(f"there is no tool {item['name'][:60]!r} on {item['server_label'][:60]!r}")
            item["output"] = self._servers.call(tool, item["arguments"])
        except OctavoError as error:
            text = {"type": "text", "text": str(error), "annotations": None, "meta": None}
            item["error"] = {"type": "mcp_tool_execution_error", "content": [text]}

    def _check(self, wanted: McpServerTool, place: int) -> None:
        entry = self._servers.entries.get(wanted.server_label)
        if entry is None:
            allowed = ", ".join(self._servers.entries) or "none; `octavo serve --mcp` allows those of mcp.toml"
            hint = nearest(wanted.server_label[:64], self._servers.entries) or f". Allowed here: {allowed}."
            raise invalid(
                f"The MCP server {wanted.server_label[:64]!r} is not allowed by this server's operator{hint}",
                f"tools.{place}.server_label",
            )
        if wanted.server_url is not None and wanted.server_url.rstrip("/") != (entry.url or "").rstrip("/"):
            text = f"The operator's MCP server {entry.name!r} has another address; leave server_url out."
            raise invalid(text, f"tools.{place}.server_url")


def approved(items: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The calls that the client approved and that were not made yet, as items without a result.

    Raises ApiError for an answer to a question that was not asked.
    """
    asked = {item["id"]: item for item in items if item["type"] == "mcp_approval_request"}
    made = {item.get("approval_request_id") for item in items if item["type"] == "mcp_call"}
    calls = []
    for item in items:
        if item["type"] != "mcp_approval_response":
            continue
        question = asked.get(item["approval_request_id"])
        if question is None:
            text = f"There is no mcp_approval_request {item['approval_request_id'][:60]!r} to answer."
            raise invalid(text, "input", "item_not_found")
        if item["approve"] and question["id"] not in made:
            said = {key: question[key] for key in ("server_label", "name", "arguments")}
            known = {"id": new_id("mcp"), "type": "mcp_call", "approval_request_id": question["id"]}
            calls.append({**known, **said, "output": None, "error": None})
    return calls


def result_of(item: Mapping[str, Any]) -> str:
    """What the model is told that a call gave."""
    if item.get("error") is None:
        return str(item.get("output") or "")
    error = item["error"]  # as the client gave it back, so of any form
    parts = error.get("content") if isinstance(error, dict) else None
    parts = parts if isinstance(parts, list) else []
    said = [str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part]
    return "Error: " + ("\n".join(said) or json.dumps(error, ensure_ascii=False))


def declined(item: Mapping[str, Any]) -> str:
    """What the model is told of a call that the client did not approve."""
    return f"{DECLINED} {item['reason']}" if item.get("reason") else DECLINED


def _list_item(label: str, tools: Sequence[McpTool]) -> Object:
    described = [
        {"name": tool.tool, "description": tool.description, "input_schema": tool.parameters, "annotations": None}
        for tool in tools
    ]
    return {"id": new_id("mcpl"), "type": "mcp_list_tools", "server_label": label, "tools": described, "error": None}
