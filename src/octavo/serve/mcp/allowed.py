"""The MCP servers that a server of ours may use for its clients: those of its operator's `mcp.toml`, and no others.

Each is connected when it is first asked for, and anew after it failed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from octavo.errors import RemoteError
from octavo.serve.mcp.client import McpClient, McpTool
from octavo.serve.mcp.servers import ServerEntry


class AllowedServers:
    """Connections by the servers' names. Thread-safe; what asks a server blocks. Close it at the end."""

    def __init__(self, entries: Sequence[ServerEntry]) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self._clients: dict[str, McpClient] = {}
        self._connecting = threading.Lock()

    def tools(self, name: str) -> tuple[McpTool, ...]:
        """What a server offers. Raises RemoteError where it cannot be had."""
        return self._client(name).tools

    def call(self, tool: McpTool, arguments: str) -> str:
        """What a call gives, as text. Raises OctavoError for a call that fails."""
        try:
            return self._client(tool.server).call(tool, arguments)
        except RemoteError:
            self._forget(tool.server)
            raise

    def close(self) -> None:
        """End all connections. Idempotent."""
        for name in list(self._clients):
            self._forget(name)

    def _client(self, name: str) -> McpClient:
        with self._connecting:
            if name not in self._clients:
                self._clients[name] = McpClient([self.entries[name]])
            return self._clients[name]

    def _forget(self, name: str) -> None:
        with self._connecting:
            client = self._clients.pop(name, None)
        if client is not None:
            client.close()
