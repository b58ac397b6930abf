"""Other people's clients, unchanged, against the server.

They bring many dependencies, so they live in an environment of their own:
    python -m venv clients
    clients/bin/pip install schemathesis llm litellm langchain-openai langchain-tests pytest-asyncio
    OCTAVO_TEST_CLIENTS=clients/bin make test-all
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel

pytestmark = pytest.mark.slow

QUESTION = "What is the capital of France? Answer in one short sentence."


@pytest.fixture
def client(tmp_path: Path) -> Any:
    """Run one of the clients' commands or a Python script there: client(name or script, *arguments) -> stdout."""
    folder = os.environ.get("OCTAVO_TEST_CLIENTS")
    if not folder:
        pytest.skip("OCTAVO_TEST_CLIENTS does not say where the clients are")

    def run(*command: str, **environment: str) -> str:
        name, *arguments = command
        if not (Path(folder) / name).exists():
            pytest.skip(f"{name} is not among the clients")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [str(Path(folder).resolve() / name), *arguments],
            env={**clean, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none", **environment},
            cwd=tmp_path, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


def test_schemathesis_finds_no_server_error(serve, stories, client):
    with load(str(stories)) as model:
        url = serve(model).url
        checks = ["--mode", "all", "--checks", "not_a_server_error", "-n", "50", "--seed", "1"]
        out = client("schemathesis", "run", f"{url}/openapi.json", *checks, "--request-timeout", "30")
        assert re.search(r"\d{3,} generated", out)


LLM_MODELS = """\
- model_id: local
  model_name: {name}
  api_base: {url}/v1
  api_key_name: none
  supports_tools: true
  supports_schema: true
"""


def test_llm_answers_streams_and_keeps_a_schema(serve, smollm2, client, tmp_path):
    with load(str(smollm2)) as model:
        (tmp_path / "extra-openai-models.yaml").write_text(LLM_MODELS.format(name=model.name, url=serve(model).url))
        folder = {"LLM_USER_PATH": str(tmp_path)}
        options = ("-m", "local", "-o", "temperature", "0")
        assert "Paris" in client("llm", "--key", "none", *options, QUESTION, **folder)
        assert "Paris" in client("llm", "--key", "none", *options, "--no-stream", QUESTION, **folder)
        answer = client("llm", "--key", "none", *options, "--schema", "city, population int", "Name a city.", **folder)
        assert set(json.loads(answer)) == {"city", "population"}


LITELLM = """
import litellm, sys
url, name = sys.argv[1:]
common = dict(api_base=url + "/v1", api_key="none")
said = [{"role": "user", "content": "x"}]
print(litellm.completion(f"openai/{name}", messages=said, **common).choices[0].message.content)
print("".join(c.choices[0].delta.content or "" for c in litellm.completion(f"openai/{name}", messages=said, stream=True, **common)))
print(litellm.text_completion(model=f"text-completion-openai/{name}", prompt="x", **common).choices[0].text)
print(litellm.responses(model=f"openai/{name}", input="x", **common).output[0].content[0].text)
"""  # noqa: E501


def test_litellm_speaks_all_its_ways(serve, client):
    model = ScriptedModel(["red and blue"])
    out = client("python", "-c", LITELLM, serve(model).url, model.name)
    assert out.splitlines() == ["red and blue"] * 4


LANGCHAIN = """
import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestOctavo(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        server = {"model": "NAME", "base_url": "URL/v1", "api_key": "none", "stream_usage": True}
        return {**server, "temperature": 0, "max_tokens": 60}

    has_tool_calling = False
    has_structured_output = False
    supports_image_inputs = False
"""
PYTEST_INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_test_loop_scope = session
asyncio_default_fixture_loop_scope = session
"""


def test_langchains_own_integration_tests_pass(serve, smollm2, client, tmp_path):
    with load(str(smollm2)) as model:
        text = LANGCHAIN.replace("NAME", model.name).replace("URL", serve(model).url)
        (tmp_path / "test_octavo.py").write_text(text)
        (tmp_path / "pytest.ini").write_text(PYTEST_INI)
        out = client("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_octavo.py")
        assert int(re.search(r"(\d+) passed", out)[1]) >= 10
