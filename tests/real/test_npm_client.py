"""Packages of npm, unchanged, against the real server: OpenAI's own, Vercel's AI SDK and Ollama's.

Needs node and a folder that OCTAVO_TEST_NPM names, where this was run:
    npm install openai ai @ai-sdk/openai @ai-sdk/openai-compatible zod ollama
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 19, "b": 23}}\n</tool_call>'


@pytest.fixture
def heard() -> Callable[..., Any]:
    """heard(package, script, address): what a script that needs the package has printed."""
    folder = Path(os.environ.get("OCTAVO_TEST_NPM", ""))

    def run(package: str, script: str, address: str) -> Any:
        if shutil.which("node") is None or not (folder / "node_modules" / package).is_dir():
            pytest.skip(f"no node, or no folder with the npm package {package} in OCTAVO_TEST_NPM")
        command = ["node", str(Path(__file__).with_name(script)), address, str(folder.resolve())]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


def sum_of(request: Any) -> str:
    return "The sum is " + request.prompt[-1]["content"].split()[1]


def test_openais_package_runs_tools_streams_parses_and_raises(serve: Any, heard: Callable[..., Any]) -> None:
    server = serve(ScriptedModel([CALL, sum_of, "one two three", "one two three", '{"n": 1}']))
    said = heard("openai", "npm_client.mjs", f"{server.url}/v1")
    assert said["tools"] == "The sum is 42" and json.loads(said["calls"]) == {"a": 19, "b": 23}
    assert "".join(said["deltas"]) == said["response"] == "one two three" and said["usage"] == 3
    assert said["events"][0] == "response.created" and said["events"][-1] == "response.completed"
    assert said["parsed"] == {"n": 1}
    assert said["error"] == [404, "model_not_found", "string"]
    assert said["models"] == ["scripted"]


def test_the_ai_sdk_runs_tools_streams_and_is_held_to_a_form(serve: Any, heard: Callable[..., Any]) -> None:
    server = serve(ScriptedModel([CALL, sum_of, "one two three", '{"n": 1}'] * 3))
    said = heard("ai", "ai_sdk_client.mjs", f"{server.url}/v1")
    assert list(said) == ["responses", "chat", "compatible"]
    for way, answers in said.items():
        assert answers["tools"] == "The sum is 42" and answers["calls"] == [{"a": 19, "b": 23}], way
        assert "".join(answers["deltas"]) == "one two three" and len(answers["deltas"]) == 3, way
        assert (answers["finish"], answers["tokens"], answers["object"]) == ("stop", 3, {"n": 1}), way
        assert answers["error"] == 400, way


def test_ollamas_package_chats_is_held_to_a_form_and_leaves(
    serve: Any, heard: Callable[..., Any], smollm2: Path
) -> None:
    with load(str(smollm2)) as model:
        said = heard("ollama", "ollama_client.mjs", serve(model).url)
        assert said["models"] == said["running"] == [model.name] and "details" in said["shown"]
        assert "".join(said["parts"]) == said["whole"] and said["last"][:2] == [True, "length"]
        assert said["text"] and isinstance(json.loads(said["held"])["n"], int)
        assert said["refused"][0] == "ResponseError" and "octavo pull" in said["refused"][1]
        assert said["left"] == "AbortError"
