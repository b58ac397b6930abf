"""`octavo mcp` as an editor meets it: a real process, spoken to by the official SDK's client."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octavo.generate.lm import Request, complete
from octavo.generate.local import load

mcp = pytest.importorskip("mcp")

Talk = Callable[[Any], Coroutine[Any, Any, Any]]


def talk(home: Path, arguments: list[str], say: Talk) -> Any:
    environment = {**os.environ, "OCTAVO_HOME": str(home), "OCTAVO_OFFLINE": "1"}
    server = mcp.StdioServerParameters(
        command=sys.executable, args=["-m", "octavo", "mcp", *arguments], env=environment
    )

    async def run() -> Any:
        async with mcp.Client(server) as client:
            return await say(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_the_official_client_lists_the_tools_and_calls_them(tmp_path: Path, stories: Path, minilm: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "cats.md").write_text("# Cats\n\nA cat sleeps sixteen hours a day.\n", encoding="utf-8")

    async def say(client: Any) -> tuple[Any, ...]:
        tools = await client.list_tools()
        chatted = await client.call_tool("chat", {"prompt": "Once", "max_tokens": 5, "temperature": 0})
        embedded = await client.call_tool("embed", {"texts": ["a cat", "a dog"]})
        found = await client.call_tool("search_documents", {"query": "how long does a cat sleep"})
        wrong = await client.call_tool("search_documents", {"query": "x", "folder": "note"})
        return tools, chatted, embedded, found, wrong

    arguments = [str(stories), "--docs", str(notes), "--encoder", str(minilm)]
    tools, chatted, embedded, found, wrong = talk(tmp_path / "home", arguments, say)
    described = {tool.name: tool for tool in tools.tools}
    assert set(described) == {"chat", "embed", "search_documents", "ask_documents"}
    assert described["chat"].input_schema["required"] == ["prompt"]
    assert chatted.is_error and "chat template" in chatted.content[0].text
    vectors = embedded.structured_content["result"]
    assert [len(vector) for vector in vectors] == [384, 384]
    (hit,) = found.structured_content["result"]
    assert hit["document"] == "cats.md" and "sixteen hours" in hit["text"]
    assert wrong.is_error and "did you mean 'notes'?" in wrong.content[0].text


def test_the_model_answers_over_mcp_as_it_does_on_the_command_line(tmp_path: Path, smollm2: Path) -> None:
    async def say(client: Any) -> Any:
        return await client.call_tool("chat", {"prompt": "Say hello.", "max_tokens": 8, "temperature": 0})

    answered = talk(tmp_path, [str(smollm2)], say)
    with load(str(smollm2)) as model:
        sampling = replace(model.sampling, temperature=0.0)
        expected = complete(model, Request([{"role": "user", "content": "Say hello."}], 8, sampling)).text
    assert not answered.is_error and answered.content[0].text == expected


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "octavo", "mcp", "--docs", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert result.returncode == 2 and "there is no folder" in result.stderr and result.stdout == ""
