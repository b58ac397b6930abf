"""Tools of MCP servers: real servers of the official SDK, listed, called with consent, and failing in every way."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo.cli.conversation import Conversation
from octavo.errors import OctavoError, RemoteError
from octavo.generate.lm import Request
from octavo.generate.scripted import ScriptedModel
from octavo.serve.mcp.calling import DECLINED, Toolbox
from octavo.serve.mcp.client import McpClient
from octavo.serve.mcp.servers import read_servers

Named = Callable[[str], Path]


def stdio(program: Path, name: str = "sums", more: str = "") -> str:
    return f"[{name}]\ncommand = [{json.dumps(sys.executable)}, {json.dumps(str(program))}]\n{more}\n"


def test_tools_are_listed_and_called_over_stdio_and_http(program: Path, over_http: str, named: Named) -> None:
    for text in (stdio(program), f'[sums]\nurl = "{over_http}"\n'):
        with McpClient(read_servers(named(text))) as client:
            tools = {tool.name: tool for tool in client.tools}
            assert set(tools) == {"add", "fail", "environment", "sleep"}
            assert tools["add"].description == "Add two numbers." and tools["add"].asks
            assert set(tools["add"].parameters["properties"]) == {"a", "b"}
            assert client.call(tools["add"], '{"a": 2, "b": 40}') == "42"
            with pytest.raises(OctavoError, match="the pen is empty"):
                client.call(tools["fail"], "")
            for wrong in ('{"a": 1}', '{"a": "x", "b": 1}', "[1]", "{"):
                with pytest.raises(OctavoError):
                    client.call(tools["add"], wrong)
            assert client.call(tools["add"], '{"a": 1, "b": 1}') == "2"


@pytest.mark.slow
def test_two_servers_with_one_tool_have_names_apart_and_no_variable_leaks(
    program: Path, named: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "sesame")
    text = stdio(program, "a", 'env = {COLOUR = "blue"}') + stdio(program, "b", 'allow = ["add"]')
    with McpClient(read_servers(named(text))) as client:
        tools = {tool.name: tool for tool in client.tools}
        assert {"a.add", "b.add", "a.fail"} <= set(tools)
        assert (tools["a.add"].asks, tools["b.add"].asks, tools["b.fail"].asks) == (True, False, True)
        assert client.call(tools["a.environment"], '{"name": "COLOUR"}') == "blue"
        assert client.call(tools["a.environment"], '{"name": "OCTAVO_API_KEY"}') == "unset"


@pytest.mark.slow
def test_a_server_that_is_slow_dies_or_never_was_is_told_in_a_sentence(program: Path, named: Named) -> None:
    with McpClient(read_servers(named(stdio(program, more="timeout = 2")))) as client:
        tools = {tool.name: tool for tool in client.tools}
        with pytest.raises(RemoteError, match="'sums' gave no answer in 2 s"):
            client.call(tools["sleep"], "{}")
    for command in ('["/nowhere/at/all"]', json.dumps([sys.executable, "-c", "raise SystemExit(3)"])):
        with pytest.raises(RemoteError, match="'sums' does not answer"):
            McpClient(read_servers(named(f"[sums]\ncommand = {command}\ntimeout = 5\n")))
    with pytest.raises(RemoteError, match="'sums' does not answer"):
        McpClient(read_servers(named('[sums]\nurl = "http://127.0.0.1:9/mcp"\ntimeout = 5\n')))


def test_a_redirect_to_another_address_is_not_followed(named: Named) -> None:
    """SSRF: a server must not lead the client to where only this machine can go."""
    visited: list[str] = []

    class Inner(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            visited.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    inner = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inner)

    class Outer(Inner):
        def do_POST(self) -> None:
            self.send_response(307)
            self.send_header("Location", f"http://127.0.0.1:{inner.server_port}/latest/meta-data")
            self.end_headers()

        do_GET = do_POST

    outer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Outer)
    for server in (inner, outer):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(RemoteError):
        McpClient(read_servers(named(f'[sums]\nurl = "http://127.0.0.1:{outer.server_port}/mcp"\ntimeout = 5\n')))
    assert visited == []
    for server in (inner, outer):
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "names no server"),
        ("[a]", "needs either a command"),
        ('[a]\ncommand = ["x"]\nurl = "http://x"', "needs either a command"),
        ('[a]\ncomand = ["x"]', "no key 'comand', did you mean 'command'?"),
        ('[a]\ncommand = "x"', "is of another kind"),
        ("[a]\ncommand = [1]", "is of another kind"),
        ("[a]\ncommand = []", "a command has words"),
        ('[a]\nurl = "file:///etc/passwd"', "no http or https address"),
        ('[a]\nurl = "http://a\\\\@127.0.0.1/"', "no http or https address"),
        ('[a]\nurl = "https://user:pw@example.org/"', "no http or https address"),
        ('[a]\nurl = "http://example.org/"\ntoken-file = "t"', "over https only"),
        ('[a]\nurl = "https://example.org/"\ntoken-file = "none"', "cannot be read"),
        ('[a]\nurl = "https://example.org/"\nenv = {A = "b"}', "env is a command's"),
        ('[a]\ncommand = ["x"]\ntimeout = 0', "not from 1 to 3600"),
        ('["a b"]\ncommand = ["x"]', "is no table of a server"),
        ("x = 1", "is no table of a server"),
        ("[a", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(named: Named, text: str, expected: str) -> None:
    with pytest.raises(OctavoError, match=r"mcp\.toml|token file") as caught:
        read_servers(named(text))
    assert expected in str(caught.value)


@pytest.fixture(scope="module")
def client(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpClient]:
    path = tmp_path_factory.mktemp("named") / "mcp.toml"
    path.write_text(stdio(program, more='allow = ["fail"]'), encoding="utf-8")
    with McpClient(read_servers(path)) as opened:
        yield opened


def called(name: str, arguments: dict[str, Any]) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def test_a_conversation_calls_with_consent_and_hears_what_came_of_it(
    client: McpClient, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str]] = []

    def consents(tool: Any, arguments: str) -> bool:
        asked.append((tool.name, arguments))
        return tool.name != "environment"

    model = ScriptedModel(
        [
            "I add. " + called("add", {"a": 2, "b": 3}) + called("environment", {"name": "HOME"}) + called("ad", {}),
            lambda request: f"It is {str(request.prompt).count('<tool_response>')} results.",
            "Bye.",
        ]
    )
    talk = Conversation(model, Request(""), None, Toolbox(client), consents)
    assert talk.say("2 + 3?").text == "It is 3 results."
    assert [name for name, _ in asked] == ["add", "environment"]
    shown = capsys.readouterr().out
    assert "I add." in shown and "tool_call" not in shown
    results = [message["content"] for message in talk.messages if message["role"] == "tool"]
    assert results == ["5", DECLINED, "Error: there is no tool 'ad', did you mean 'add'?"]
    told = str(model.requests[0].prompt)
    assert "Add two numbers." in told and "<tools>" in told
    talk.undo()
    assert talk.messages == []
    talk.say("Hi")
    talk.retry()
    assert [message["role"] for message in talk.messages] == ["user", "assistant"]


def test_a_model_that_only_calls_is_stopped(client: McpClient) -> None:
    talk = Conversation(ScriptedModel([called("fail", {})]), Request(""), None, Toolbox(client))
    with pytest.raises(OctavoError, match="8 times"):
        talk.say("go on")
    assert talk.messages == []
