"""`octavo chat` on a terminal: Ctrl-C stops the answer and not the program, and a server can be talked to."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from octavo.cli.chat import _read_message


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "OCTAVO_OFFLINE": "1"}
        command = [sys.executable, "-m", "octavo", *arguments]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.seen = ""

    def wait_for(self, text: str, *, after: int = 0, seconds: float = 40) -> None:
        """Read until `text` has appeared past the first `after` characters."""
        deadline = time.monotonic() + seconds
        while text not in self.seen[after:]:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                self.seen += os.read(self._master, 4096).decode("utf-8", "replace")

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(terminal: Callable[..., Terminal], smollm2: Path) -> None:
    chat = terminal("chat", str(smollm2), "-t", "0", "-n", "4000")
    chat.wait_for("> ")
    chat.send("Write a very long story about a dragon and a knight.\n")
    chat.wait_for("dragon", after=chat.seen.index("> ") + 60)
    chat.process.send_signal(signal.SIGINT)
    chat.wait_for("stopped")
    said = len(chat.seen)
    chat.wait_for("> ", after=chat.seen.index("stopped"))
    time.sleep(0.5)  # the prompt is written a moment before readline begins to listen
    chat.process.send_signal(signal.SIGINT)
    chat.wait_for("leaves", after=said)
    chat.send("/exit\n")
    assert chat.process.wait(20) == 0
    assert "Traceback" not in chat.seen and "\x1b[2m" not in chat.seen


def test_a_running_server_is_talked_to(terminal: Callable[..., Terminal], smollm2: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    key.chmod(0o600)
    server = terminal("serve", str(smollm2), "--port", "0", "--api-key-file", str(key))
    server.wait_for("octavo chat --url")
    url = server.seen.partition("octavo chat --url ")[2].split()[0]
    assert "Authorization: Bearer KEY" in server.seen
    command = [sys.executable, "-m", "octavo", "chat", "--url", url, "-t", "0", "-n", "12"]
    question = "What is the capital of France? Answer in one short sentence.\n"
    answer = subprocess.run(
        [*command, "--api-key-file", str(key)], input=question, capture_output=True, text=True, timeout=60
    )
    assert "Paris" in answer.stdout, answer
    refused = subprocess.run(command, input=question, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and refused.stderr.startswith("octavo: error: the server answered 401")
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(30) == 0


@pytest.mark.slow
def test_a_tool_runs_when_the_person_says_yes(
    terminal: Callable[..., Terminal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mcp")
    program = tmp_path / "sums.py"
    program.write_text(
        "from mcp.server import MCPServer\nserver = MCPServer('sums')\n"
        "@server.tool()\ndef add(a: int, b: int) -> int:\n    return a + b\nserver.run()\n"
    )
    (tmp_path / "mcp.toml").write_text(f"[sums]\ncommand = ['{sys.executable}', '{program}']\n")
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    script = (
        "from octavo.generate.scripted import ScriptedModel\n"
        "from octavo.serve.http.server import run\nfrom octavo.serve.http.settings import ServerSettings\n"
        'call = \'<tool_call>\\n{"name": "add", "arguments": {"a": 19, "b": 23}}\\n</tool_call>\'\n'
        "model = ScriptedModel([call, lambda asked: 'The sum is ' + asked.prompt[-1]['content'].split()[1]])\n"
        "run([model], ServerSettings(port=0), on_ready=lambda address, names: print(address, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            chat = terminal("chat", "--mcp", "--url", f"{server.stdout.readline().strip()}/v1")
            chat.wait_for("tools: add")
            chat.wait_for("> ")
            chat.send("What is 19 and 23?\n")
            chat.wait_for("sums would run add")
            chat.wait_for("Run it? [y/N]")
            chat.send("y\n")
            chat.wait_for("The sum is 42")
            chat.send("/exit\n")
            assert chat.process.wait(20) == 0
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["one line"], "one line"),
        (["goes \\", "on \\", "here"], "goes \non \nhere"),
        (['"""', "two", "lines", '"""'], "two\nlines"),
        (['"""begun at once', "", 'and ended so"""'], "begun at once\n\nand ended so"),
        (['  """all in one"""  '], "all in one"),
        (['say """ aloud'], 'say """ aloud'),
    ],
)
def test_what_stands_between_quotes_or_after_a_backslash_is_one_message(
    typed: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(typed)
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    assert _read_message() == message
    assert not list(lines)
