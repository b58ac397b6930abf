"""A real MCP server of the official SDK, as a program: over stdio, or over HTTP on a free port."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = '''
import socket, sys
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("sums")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("the pen is empty")


@server.tool()
def environment(name: str) -> str:
    """A variable."""
    import os
    return os.environ.get(name, "unset")


@server.tool()
def sleep() -> str:
    """Take long."""
    import time
    time.sleep(30)
    return "late"


if len(sys.argv) > 1:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()
    print("PORT", port, flush=True)
    server.run("streamable-http", port=port)
else:
    server.run("stdio")
'''


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's file; run without words it speaks on stdin and stdout."""
    pytest.importorskip("mcp")
    path = tmp_path_factory.mktemp("mcp") / "sums.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return path


@pytest.fixture
def over_http(program: Path) -> Iterator[str]:
    """The address of the same server over streamable HTTP."""
    command = [sys.executable, str(program), "http"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            found = re.match(r"PORT (\d+)", process.stdout.readline())
            assert found is not None
            while "running on" not in process.stderr.readline():
                assert process.poll() is None
            yield f"http://127.0.0.1:{found[1]}/mcp"
        finally:
            process.kill()


@pytest.fixture
def named(tmp_path: Path) -> Callable[[str], Path]:
    """Write an mcp.toml."""

    def write(text: str) -> Path:
        path = tmp_path / "mcp.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
