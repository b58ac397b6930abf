"""The tools of MCP servers: listed and called through the official SDK, over stdio or streamable HTTP.

Unusual: one thread holds all connections, because the SDK wants a connection closed by the task that opened it; who
calls a tool blocks. The SDK follows a redirect on its server's own origin only: an answer cannot lead elsewhere.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import re
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Self, TypeVar

from octavo.errors import MissingDependencyError, OctavoError, RemoteError
from octavo.serve.mcp.servers import ServerEntry

T = TypeVar("T")
NAME: Final = r"[a-zA-Z0-9_.-]{1,64}"
START_SECONDS: Final = 120
"""For a server to come up; one that is fetched first takes a while."""
MOST_CHARACTERS: Final = 100_000
"""Of a result; the rest would only push the conversation out of the context."""


@dataclass(frozen=True)
class McpTool:
    """A tool. name: as the model knows it, which is its own, or SERVER.TOOL where two servers have it.

    asks: whether its calls need a person's consent.
    """

    name: str
    server: str
    tool: str
    description: str
    parameters: dict[str, Any]
    asks: bool


def require_sdk() -> None:
    """Raises MissingDependencyError where MCP's SDK is not installed."""
    if find_spec("mcp") is None:
        raise MissingDependencyError("MCP needs its SDK; run `pip install 'octavo[mcp]'`")


class McpClient:
    """Connections to servers, made when built. Use it as a context manager. Raises RemoteError for one that fails."""

    def __init__(self, servers: Sequence[ServerEntry]) -> None:
        require_sdk()
        self._servers = {entry.name: entry for entry in servers}
        self._clients: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._live, name="octavo-mcp", daemon=True)
        self._thread.start()
        try:
            self._ready.result()
            self.tools = tuple(self._listed())
        except BaseException:
            self.close()
            raise

    def call(self, tool: McpTool, arguments: str) -> str:
        """What a call gives, as text. arguments: JSON text. Raises OctavoError for what the model can mend."""
        try:
            given = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise OctavoError(f"the arguments of {tool.name} are no JSON") from None
        if not isinstance(given, dict):
            raise OctavoError(f"the arguments of {tool.name} are no object")
        result = self._wait(tool.server, self._clients[tool.server].call_tool(tool.tool, given))
        text = _text(result)
        if result.is_error:
            raise OctavoError(text or f"{tool.name} failed")
        return text

    def close(self) -> None:
        """End all connections and the servers that were started. Idempotent."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _listed(self) -> list[McpTool]:
        found = [(name, tool) for name in self._servers for tool in self._wait(name, self._pages(name))]
        names = [tool.name for _, tool in found]
        tools = []
        for server, tool in found:
            name = tool.name if names.count(tool.name) == 1 else f"{server}.{tool.name}"
            if re.fullmatch(NAME, name):  # a model could not call another
                asks = not self._servers[server].allows(tool.name)
                tools.append(McpTool(name, server, tool.name, tool.description or "", dict(tool.input_schema), asks))
        return tools

    async def _pages(self, name: str) -> list[Any]:
        tools: list[Any] = []
        cursor = None
        while True:
            page = await self._clients[name].list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None or len(tools) > 1000:
                return tools

    def _wait(self, server: str, work: Coroutine[Any, Any, T]) -> T:
        """The result of some work on the connections' thread, in the server's time."""
        seconds = self._servers[server].timeout
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop)
        try:
            return future.result()
        except TimeoutError:
            raise RemoteError(f"the MCP server {server!r} gave no answer in {seconds} s") from None
        except OctavoError:
            raise
        except Exception as error:
            raise RemoteError(f"the MCP server {server!r} failed: {_reason(error)}") from None

    def _live(self) -> None:
        try:
            self._loop.run_until_complete(self._hold())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self._loop.close()

    async def _hold(self) -> None:
        """Open all, wait for the end, close all."""
        async with contextlib.AsyncExitStack() as stack:
            for name, entry in self._servers.items():
                try:
                    async with asyncio.timeout(START_SECONDS):
                        self._clients[name] = await stack.enter_async_context(await _client(entry, stack))
                except Exception as error:
                    raise RemoteError(f"the MCP server {name!r} does not answer: {_reason(error)}") from None
            self._ready.set_result(None)
            await self._stop.wait()


async def _client(entry: ServerEntry, stack: contextlib.AsyncExitStack) -> Any:
    import httpx2
    from mcp import Client, StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client

    if entry.url is None:
        parameters = StdioServerParameters(command=entry.command[0], args=list(entry.command[1:]), env=dict(entry.env))
        quiet = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        return Client(stdio_client(parameters, errlog=quiet))
    headers = {} if entry.token is None else {"Authorization": f"Bearer {entry.token}"}
    http = httpx2.AsyncClient(headers=headers, timeout=entry.timeout, follow_redirects=False, trust_env=False)
    await stack.enter_async_context(http)
    return Client(streamable_http_client(entry.url, http_client=http))


def _text(result: Any) -> str:
    """A result as the model reads it: its texts, and a line for what is none."""
    parts = [part.text if part.type == "text" else f"[{part.type}]" for part in result.content]
    text = "\n".join(parts)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "\n[cut]"


def _reason(error: BaseException) -> str:
    """The first plain error of a group, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
