"""OpenAI's npm package, unchanged, against the real server: it runs tools, puts streams together, parses, raises.

Needs node and a folder where `npm install openai` was run, which OCTAVO_TEST_NPM names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from octavo.generate.scripted import ScriptedModel

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 19, "b": 23}}\n</tool_call>'


@pytest.fixture
def npm() -> Path:
    """The folder with the package."""
    folder = Path(os.environ.get("OCTAVO_TEST_NPM", ""))
    if shutil.which("node") is None or not (folder / "node_modules/openai").is_dir():
        pytest.skip("no node, or no folder with the npm package openai in OCTAVO_TEST_NPM")
    return folder


def test_the_npm_package_runs_tools_streams_parses_and_raises(serve: Any, npm: Path) -> None:
    def sum_of(request: Any) -> str:
        return "The sum is " + request.prompt[-1]["content"].split()[1]

    server = serve(ScriptedModel([CALL, sum_of, "one two three", "one two three", '{"n": 1}']))
    script = Path(__file__).with_name("npm_client.mjs")
    command = ["node", str(script), f"{server.url}/v1", str(npm)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    heard = json.loads(result.stdout)
    assert heard["tools"] == "The sum is 42" and json.loads(heard["calls"]) == {"a": 19, "b": 23}
    assert "".join(heard["deltas"]) == heard["response"] == "one two three" and heard["usage"] == 3
    assert heard["events"][0] == "response.created" and heard["events"][-1] == "response.completed"
    assert heard["parsed"] == {"n": 1}
    assert heard["error"] == [404, "model_not_found", "string"]
    assert heard["models"] == ["scripted"]
