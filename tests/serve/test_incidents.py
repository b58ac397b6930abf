"""What went wrong elsewhere: each test is named after an incident of other servers and sends what was sent there.

The general rules behind them have tests of their own (`test_gate.py`, `test_request_fields.py`, `test_gguf.py`).
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import logging
import random
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import annotated_types
import httpx2
import numpy as np
import pytest
from fastapi.routing import APIRoute
from packaging.version import Version

import octavo
from octavo.cli import arguments
from octavo.errors import OctavoError
from octavo.generate.scripted import ScriptedModel
from octavo.models.formats.gguf import read_gguf
from octavo.serve.api import chat, completions, conversations, decisions, embeddings, rerank, tokens
from octavo.serve.fields import Strict
from octavo.serve.http.page_files import page_files
from octavo.serve.responses import request as responses
from octavo.text.tokenizer import Tokenizer

KEY = "sk-octavo-incident"
SOURCE = Path(octavo.__file__).parent
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def running(start_server):
    server = start_server([ScriptedModel(["yes"])])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def http(running) -> httpx2.Client:
    return running.http()


def test_175000_open_ollama_hosts(start_server):
    """Bound to this machine alone unless told otherwise, and then not without a key."""
    command = [sys.executable, "-m", "octavo", "serve", "--port", "0", "--host", "0.0.0.0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "--allow-no-key" in refused.stderr
    running = start_server([ScriptedModel(["yes"])])
    socket.create_connection(("127.0.0.1", running.port), 2).close()
    if sys.platform == "linux":  # every address 127.* is this machine's
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", running.port), 2)
    running.stop()


def test_vllm_key_that_guards_only_some_prefixes(start_server):
    running = start_server([ScriptedModel(["yes"])], api_key=KEY)
    client = running.http()
    paths = {route.path for route in _routes(running.server.config.app)} | {"/invocations", "/score", "/pause", "/v2"}
    assert {"/v1/files", "/tokenize", "/api/chat", "/metrics"} <= paths
    for path in paths - {"/health", *page_files()}:
        where = path.replace("{", "").replace(":path}", "").replace("}", "")
        for spelled in (where, where + "/", "/" + where, where.upper(), where.replace("/", "//")):
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
                if spelled.lower() not in ("/health", *page_files()):
                    assert client.request(method, running.address + spelled).status_code == 401, (method, spelled)
    running.stop()


def _routes(app: Any) -> Iterator[APIRoute]:
    for route in app.routes:
        inner = getattr(route, "original_router", None)
        if isinstance(route, APIRoute):
            yield route
        elif inner is not None:
            yield from _routes(inner)


@pytest.mark.parametrize("host", ["evil.example:{port}", "a.local", "model.internal", "127.0.0.1.nip.io", "localhost."])
def test_mcp_sdk_cve_2025_66416_dns_rebinding(running, http, host):
    shown = host.format(port=running.port)
    for path in ("/v1/models", "/", "/health", "/api/tags"):
        assert http.get(path, headers={"Host": shown}).status_code == 403
    assert http.post("/v1/completions", json={"prompt": "x"}, headers={"Host": shown}).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://"])
def test_llama_cpp_reflects_any_origin_with_credentials(http, origin):
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("OPTIONS", "/v1/chat/completions")):
        answer = http.request(method, path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.slow
def test_ollama_cve_2026_7482_and_llama_cpp_cve_2026_27940_gguf_sizes(tmp_path):
    """10,000 files that lie, most in a length, a count or an offset: our own error, or a tensor in the file."""
    good, places = _gguf_file()
    chance = random.Random(7)
    lies = [0, 1, 2**31, 2**32 - 1, 2**32, 2**61, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
    path = tmp_path / "lying.gguf"
    refused = 0
    for _ in range(10_000):
        content = bytearray(good)
        if chance.random() < 0.7:
            place = chance.choice(places)
            content[place : place + 8] = struct.pack("<Q", chance.choice([*lies, chance.getrandbits(64)]))
        else:
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            for entry in read_gguf(path).tensors.values():
                with np.errstate(all="ignore"):
                    entry.read().dequantize()
        except OctavoError:
            refused += 1
    assert 5_000 < refused < 10_000


def _gguf_file() -> tuple[bytes, list[int]]:
    """A small file, and where its 64-bit numbers stand."""
    parts: list[bytes] = []
    places: list[int] = []

    def number(value: int) -> None:
        places.append(sum(map(len, parts)))
        parts.append(struct.pack("<Q", value))

    def text(value: bytes) -> None:
        number(len(value))
        parts.append(value)

    parts.append(struct.pack("<4sI", b"GGUF", 3))
    number(2)
    number(2)
    text(b"general.architecture")
    parts.append(struct.pack("<I", 8))
    text(b"llama")
    text(b"tokenizer.ggml.tokens")
    parts.append(struct.pack("<II", 9, 8))
    number(3)
    for token in (b"a", b"bc", b"def"):
        text(token)
    for name, shape, kind, offset in ((b"w", (32, 2), 3, 0), (b"v", (4,), 0, 64)):
        text(name)
        parts.append(struct.pack("<I", len(shape)))
        for size in shape:
            number(size)
        parts.append(struct.pack("<I", kind))
        number(offset)
    head = b"".join(parts)
    return head + b"\0" * (-len(head) % 32) + b"\1" * 96, places


ENDPOINTS: tuple[tuple[str, type[Strict], dict[str, Any]], ...] = (
    ("/v1/chat/completions", chat.ChatRequest, {"messages": HI}),
    ("/v1/completions", completions.CompletionRequest, {"prompt": "x"}),
    ("/v1/responses", responses.ResponseRequest, {"input": "x"}),
    ("/v1/conversations", conversations.ConversationRequest, {}),
    ("/v1/embeddings", embeddings.EmbeddingsRequest, {"input": "x"}),
    ("/v1/rerank", rerank.RerankRequest, {"query": "x", "documents": ["y"]}),
    ("/v1/decisions", decisions.DecisionRequest, {"input": "x", "questions": []}),
    ("/tokenize", tokens.TokenizeRequest, {"prompt": "x"}),
    ("/detokenize", tokens.DetokenizeRequest, {"tokens": [1]}),
)


@pytest.mark.parametrize(("path", "body_type", "body"), ENDPOINTS)
def test_llama_cpp_cve_2026_21869_a_negative_number_in_a_request(http, path, body_type, body):
    """Every number has bounds, and none beyond them, no flag, no NaN and no text passes as a number."""
    numbers = [name for name, field in body_type.model_fields.items() if {int, float} & _kinds(field.annotation)]
    for name in numbers:
        spelled = body_type.model_fields[name].alias or name
        bounded = _bounds(body_type.model_fields[name]) >= {"low", "high"}
        assert bounded or name == "prompt", f"{path} {name} has no bounds"  # a prompt's ids have a check of their own
        for wrong in ("-1e300", "1e300", "-9223372036854775809", "18446744073709551616", "NaN", "true", '"1"'):
            kinds = _kinds(body_type.model_fields[name].annotation)
            if (wrong == "true" and bool in kinds) or (wrong == '"1"' and {str, Any} & kinds):
                continue
            content = json.dumps(body)[:-1] + f"{', ' if body else ''}{json.dumps(spelled)}: {wrong}}}"
            answer = http.post(path, content=content.encode(), headers={"Content-Type": "application/json"})
            assert answer.status_code == 400, (path, name, wrong, answer.text)


def _kinds(annotation: Any) -> set[Any]:
    """The plain types in an annotation."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        inner = inner[:1]
    return {annotation} if not inner else set().union(*map(_kinds, inner))


def _bounds(field: Any) -> set[str]:
    """Which ends are bounded, wherever in the field's type that is said."""
    found: set[str] = set()
    todo = [*field.metadata, field.annotation]
    while todo:
        entry = todo.pop()
        todo += [*typing.get_args(entry), *getattr(entry, "metadata", ())]
        if isinstance(entry, annotated_types.Ge | annotated_types.Gt):
            found.add("low")
        if isinstance(entry, annotated_types.Le | annotated_types.Lt):
            found.add("high")
    return found


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__['os'].popen('id').read() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 'x' * 10**9 }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{% set _ = messages.append(1) %}{{ lipsum.__globals__ }}",
    ],
)
def test_sglang_cve_2026_5760_a_chat_template_that_runs_code(stories, tmp_path, template):
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((stories / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    started = time.monotonic()
    with pytest.raises(OctavoError, match="chat template"):
        Tokenizer.from_folder(tmp_path).render(HI)
    assert time.monotonic() - started < 20


def test_sglang_cve_2026_3059_pickles():
    """Nothing in the package can read one: no module that does is imported, and torch is told to read weights only."""
    bad = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "_pickle"}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not any(name in text for name in (*bad, ".load(")):
            continue
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert bad.isdisjoint(name.partition(".")[0] for name in names), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "numpy.load", "np.load"):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                safe = given.get("weights_only") == "True" or given.get("allow_pickle", "False") == "False"
                assert safe and not (ast.unparse(node.func) == "torch.load" and "weights_only" not in given), path


def test_open_webui_cve_2026_45400_vllm_cve_2026_24779_a_url_in_a_request(running, http):
    """Whatever field holds an address, in whatever spelling, nothing is fetched."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        port = listener.getsockname()[1]
        for url in (
            f"http://127.0.0.1:{port}/x.png",
            f"http://a\\@127.0.0.1:{port}/",
            f"http://[::ffff:127.0.0.1]:{port}/",
            f"http://2130706433:{port}/",
            f"http://localhost:{port}/",
        ):
            image = {"type": "image_url", "image_url": {"url": url}}
            bodies = [
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": [image]}]}),
                (
                    "/v1/responses",
                    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]},
                ),
                ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]}),
                ("/v1/responses", {"input": "x", "tools": [{"type": "mcp", "server_label": "a", "server_url": url}]}),
                ("/api/chat", {"model": "scripted", "messages": [{**HI[0], "images": [url]}], "stream": False}),
                ("/v1/chat/completions", {"messages": HI, "model": url}),
            ]
            for path, body in bodies:
                assert http.post(path, json=body).status_code in (400, 404), (path, body)
        for path in ("/api/pull", "/api/create", "/api/push", "/api/copy", "/api/delete", "/api/blobs/x"):
            assert http.post(path, json={"model": f"http://127.0.0.1:{port}/m"}).status_code in (404, 405, 501)
        with pytest.raises(TimeoutError):
            listener.accept()


class Leaking(ScriptedModel):
    def stream(self, request: Any) -> Any:
        raise RuntimeError(f"<engine object at {hex(id(self))}> could not read {request.prompt}")


def test_vllm_cve_2026_22778_an_error_that_tells_addresses(start_server, caplog):
    running = start_server([Leaking(["x"])])
    for path, body in (("/v1/chat/completions", {"messages": HI}), ("/v1/responses", {"input": "my secret"})):
        for stream in (False, True):
            text = running.http().post(path, json={**body, "stream": stream}).text
            assert "server_error" in text and "0x" not in text and "engine" not in text and "secret" not in text
    assert "0x7" not in caplog.text and "my secret" not in caplog.text
    running.stop()


def test_vllm_cve_2026_5497_a_bomb_of_frames(http):
    """Pictures are refused by name before anything of them is decoded."""
    bomb = "data:image/png;base64," + "iVBORw0KGgo" * 100_000
    image = {"type": "image_url", "image_url": {"url": bomb}}
    answer = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [image] * 5}]})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "unsupported_parameter"


def test_open_webui_cve_2026_45349_anothers_rows(tmp_path, start_server):
    """Each row has its owner, who is asked for in the query itself; a wrong key is wrong in whichever header."""
    path = tmp_path / "state.sqlite3"
    first = start_server([ScriptedModel(["x"])], state_path=path, api_key="first")
    key = {"Authorization": "Bearer first"}
    kept = first.http().post("/v1/responses", json={"input": "mine"}, headers=key).json()["id"]
    talk = first.http().post("/v1/conversations", json={}, headers=key).json()["id"]
    stored = first.http().post("/v1/chat/completions", json={"messages": HI, "store": True}, headers=key).json()["id"]
    liked = {"messages": HI, "completion": "x", "rating": "up"}
    rated = first.http().post("/v1/feedback", json=liked, headers=key).json()["id"]
    first.stop()
    other = start_server([ScriptedModel(["x"])], state_path=path, api_key="second")
    client = other.http()
    client.headers["Authorization"] = "Bearer second"
    for what in (
        f"responses/{kept}", f"responses/{kept}/input_items", f"conversations/{talk}", f"conversations/{talk}/items",
        f"chat/completions/{stored}", f"chat/completions/{stored}/messages",
    ):  # fmt: skip
        assert client.get(f"/v1/{what}").status_code == 404, what
    for what in (f"responses/{kept}", f"conversations/{talk}", f"chat/completions/{stored}", f"feedback/{rated}"):
        assert client.delete(f"/v1/{what}").status_code == 404, what
    assert client.post("/v1/responses", json={"input": "x", "previous_response_id": kept}).status_code == 400
    assert client.post("/v1/responses", json={"input": "x", "conversation": talk}).status_code == 404
    assert client.get("/v1/chat/completions").json()["data"] == client.get("/v1/feedback").json()["data"] == []
    assert client.get("/v1/feedback/export?format=unpaired").text == ""
    other.stop()
    for headers in ({"x-api-key": "first"}, {"X-API-Key": "wrong"}, {"Cookie": "key=first"}, {"api-key": "first"}):
        again = start_server([ScriptedModel(["x"])], state_path=path, api_key="first")
        assert again.http().get(f"/v1/responses/{kept}", headers=headers).status_code == 401
        again.stop()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM object WHERE owner = ''").fetchone() == (0,)
    database.close()


def test_python_multipart_cve_2026_42561_and_starlette_cve_2025_62727(http):
    """The versions that were mended, and the header of the second: many ranges of a file."""
    assert Version(importlib.metadata.version("starlette")) >= Version("0.49.1")
    needs = importlib.metadata.requires("octavo") or []
    for need in needs:
        assert not need.startswith("python-multipart") or ">=0.0.27" in need, need
    ranges = "bytes=" + ",".join(f"{place}-" for place in range(5_000))
    assert http.get("/app.js", headers={"Range": ranges[:60_000]}).status_code in (200, 400, 431)


def test_a_key_on_the_command_line_and_a_key_file_that_others_read(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "octavo", "serve", "--api-key", "sesame"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2 and "--api-key-file" in result.stderr
    file = tmp_path / "key"
    file.write_text("sesame\n", encoding="utf-8")
    file.chmod(0o600)
    assert arguments.api_key(str(file)) == "sesame"
    file.chmod(0o644)
    if sys.platform != "win32":
        with pytest.raises(OctavoError, match="chmod 600"):
            arguments.api_key(str(file))


def test_prompts_and_headers_in_logs(start_server, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    running = start_server([ScriptedModel(["the-answer"])], api_key=KEY, access_log=True)
    client = running.http()
    client.headers |= {"Authorization": f"Bearer {KEY}", "X-Private": "the-header"}
    for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "the-prompt"}]}),
                       ("/v1/completions", {"prompt": "the-prompt", "bad": "the-value"})):  # fmt: skip
        client.post(path, json=body)
    running.stop()
    captured = capfd.readouterr()
    said = (
        captured.out
        + captured.err
        + "".join(record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore")))
    )
    for secret in (KEY, "the-header", "the-prompt", "the-answer", "the-value"):
        assert secret not in said
