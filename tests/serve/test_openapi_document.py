"""Answers are what OpenAI's own published description says that they are."""

from __future__ import annotations

import gzip
import json
from typing import Any

import jsonschema
import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel

SAID = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def document(shared) -> Any:
    path = shared / "data/api/openai-openapi.json.gz"
    if not path.exists():
        pytest.skip("the published description is not at hand")
    return as_json_schema(json.loads(gzip.decompress(path.read_bytes())))


def as_json_schema(value: Any) -> Any:
    """The document's own dialect in JSON schema's words: what may be null, and kinds that are told apart by a field."""
    if isinstance(value, list):
        return [as_json_schema(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    made = {name: as_json_schema(entry) for name, entry in value.items() if name not in ("nullable", "discriminator")}
    if isinstance(made.get("oneOf"), list):
        made["anyOf"] = made.pop("oneOf")
    return {"anyOf": [made, {"type": "null"}]} if value.get("nullable") is True else made


@pytest.fixture(scope="module")
def check(document):
    """A function that validates an answer: check(method, path, answer) -> the answer's body."""

    def described(method: str, path: str) -> Any:
        answers = document["paths"][path][method]["responses"]
        return answers["200"]["content"]

    def check(method: str, path: str, answer: Any) -> Any:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        validate(described(method, path)["application/json"]["schema"], body)
        return body

    def validate(schema: Any, body: Any) -> None:
        whole = {**schema, "components": document["components"]}
        jsonschema.Draft202012Validator(whole).validate(body)

    check.events = (
        lambda method, path, lines: [  # type: ignore[attr-defined]
            validate(described(method, path)["text/event-stream"]["schema"], json.loads(line[6:]))
            for line in lines
            if line.startswith("data: {")
        ]
    )
    return check


@pytest.fixture(scope="module")
def http(start_server, stories):
    with load(str(stories)) as model:
        running = start_server(
            [ScriptedModel(["red or blue"], name="script"), ScriptedModel([CALL], name="caller"), model]
        )
        yield running.http()
        running.stop()


@pytest.mark.parametrize(
    "body",
    [
        {"model": "script"},
        {"model": "script", "n": 2, "logprobs": True, "top_logprobs": 2},
        {"model": "caller", "tools": [TOOL]},
        {"model": "script", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"},
    ],
)
def test_chat_completions(http, check, body):
    path = "/chat/completions"
    check("post", path, http.post(f"/v1{path}", json={"messages": SAID, **body}))
    streamed = {"messages": SAID, **body, "stream": True, "stream_options": {"include_usage": True}}
    lines = http.post(f"/v1{path}", json=streamed).text.splitlines()
    assert len(check.events("post", path, lines)) > 3


def test_plain_completions(http, check):
    body = {"model": "stories260K", "prompt": ["Once", "Then"], "max_tokens": 5, "logprobs": 2}
    check("post", "/completions", http.post("/v1/completions", json=body))


def test_models(http, check):
    check("get", "/models", http.get("/v1/models"))
    check("get", "/models/{model}", http.get("/v1/models/script"))


@pytest.mark.parametrize(
    "body",
    [
        {"model": "script"},
        {"model": "caller", "tools": [{"type": "function", **TOOL["function"], "strict": False}]},
        {"model": "script", "include": ["message.output_text.logprobs"], "instructions": "Be short."},
    ],
)
def test_responses(http, check, body):
    made = check("post", "/responses", http.post("/v1/responses", json={"input": "x", **body}))
    path = f"/v1/responses/{made['id']}"
    check("get", "/responses/{response_id}", http.get(path))
    check("get", "/responses/{response_id}/input_items", http.get(f"{path}/input_items"))
    lines = http.post("/v1/responses", json={"input": "x", **body, "stream": True}).text.splitlines()
    assert len(check.events("post", "/responses", lines)) > 3


def test_input_tokens(start_server, check, smollm2):
    with load(str(smollm2)) as model:
        running = start_server([model])
        check("post", "/responses/input_tokens", running.http().post("/v1/responses/input_tokens", json={"input": "x"}))
        running.stop()


def test_conversations_and_stored_completions(http, check):
    item = {"type": "message", "role": "user", "content": "hello"}
    made = check("post", "/conversations", http.post("/v1/conversations", json={"items": [item]}))
    path, described = f"/v1/conversations/{made['id']}", "/conversations/{conversation_id}"
    check("get", described, http.get(path))
    items = check("get", f"{described}/items", http.get(f"{path}/items"))
    check("get", f"{described}/items/{{item_id}}", http.get(f"{path}/items/{items['data'][0]['id']}"))
    check("post", f"{described}/items", http.post(f"{path}/items", json={"items": [item]}))
    check("delete", described, http.delete(path))
    kept = http.post("/v1/chat/completions", json={"messages": SAID, "model": "script", "store": True}).json()
    path, described = f"/v1/chat/completions/{kept['id']}", "/chat/completions/{completion_id}"
    check("get", "/chat/completions", http.get("/v1/chat/completions"))
    check("get", described, http.get(path))
    check("post", described, http.post(path, json={"metadata": {"a": "b"}}))
    check("delete", described, http.delete(path))


def test_files_and_vector_stores(http, check):
    upload = http.post("/v1/files", data={"purpose": "assistants"}, files={"file": ("a.md", b"Mallards eat weed.")})
    file = check("post", "/files", upload)
    check("get", "/files", http.get("/v1/files"))
    check("get", "/files/{file_id}", http.get(f"/v1/files/{file['id']}"))
    store = check("post", "/vector_stores", http.post("/v1/vector_stores", json={"name": "a", "metadata": {"b": "c"}}))
    place, shape = f"/v1/vector_stores/{store['id']}", "/vector_stores/{vector_store_id}"
    sizes = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}
    body = {"file_id": file["id"], "attributes": {"a": 1, "b": "c", "d": True}}
    body["chunking_strategy"] = {"type": "static", "static": sizes}
    check("post", f"{shape}/files", http.post(f"{place}/files", json=body))
    batch = check("post", f"{shape}/file_batches", http.post(f"{place}/file_batches", json={"file_ids": [file["id"]]}))
    while http.get(place).json()["status"] != "completed":
        pass
    check("get", f"{shape}/file_batches/{{batch_id}}", http.get(f"{place}/file_batches/{batch['id']}"))
    files = f"{place}/file_batches/{batch['id']}/files"
    check("get", f"{shape}/file_batches/{{batch_id}}/files", http.get(files))
    check("post", f"{shape}/file_batches/{{batch_id}}/cancel", http.post(f"{place}/file_batches/{batch['id']}/cancel"))
    for method, path in (("get", "/files"), ("get", f"/files/{file['id']}"), ("get", f"/files/{file['id']}/content")):
        check(method, shape + path.replace(file["id"], "{file_id}"), http.get(place + path))
    changed = http.post(f"{place}/files/{file['id']}", json={"attributes": {"a": 2}})
    check("post", f"{shape}/files/{{file_id}}", changed)
    found = check("post", f"{shape}/search", http.post(f"{place}/search", json={"query": "mallards"}))
    assert [row["filename"] for row in found["data"]] == ["a.md"]
    check("get", shape, http.get(place))
    check("get", "/vector_stores", http.get("/v1/vector_stores"))
    changes = {"expires_after": {"anchor": "last_active_at", "days": 7}, "metadata": {}}
    check("post", shape, http.post(place, json=changes))
    check("delete", f"{shape}/files/{{file_id}}", http.delete(f"{place}/files/{file['id']}"))
    check("delete", shape, http.delete(place))
    check("delete", "/files/{file_id}", http.delete(f"/v1/files/{file['id']}"))


def test_uploads(http, check):
    announced = {"filename": "a.txt", "purpose": "assistants", "bytes": 3, "mime_type": "text/plain"}
    upload = check("post", "/uploads", http.post("/v1/uploads", json=announced))
    place = f"/v1/uploads/{upload['id']}"
    part = check("post", "/uploads/{upload_id}/parts", http.post(f"{place}/parts", files={"data": ("a", b"abc")}))
    check("post", "/uploads/{upload_id}/complete", http.post(f"{place}/complete", json={"part_ids": [part["id"]]}))
    other = http.post("/v1/uploads", json=announced).json()
    check("post", "/uploads/{upload_id}/cancel", http.post(f"/v1/uploads/{other['id']}/cancel"))


def test_responses_that_search_files(http, check):
    store = http.post("/v1/vector_stores", json={}).json()["id"]
    upload = http.post("/v1/files", data={"purpose": "assistants"}, files={"file": ("a.md", b"Red or blue, said she.")})
    http.post(f"/v1/vector_stores/{store}/files", json={"file_id": upload.json()["id"]})
    while http.get(f"/v1/vector_stores/{store}").json()["status"] != "completed":
        pass
    body = {"model": "script", "input": "What did she say?", "include": ["file_search_call.results"]}
    body["tools"] = [{"type": "file_search", "vector_store_ids": [store]}]
    made = check("post", "/responses", http.post("/v1/responses", json=body))
    assert made["output"][1]["content"][0]["annotations"][0]["filename"] == "a.md"
    lines = http.post("/v1/responses", json={**body, "stream": True}).text.splitlines()
    assert len(check.events("post", "/responses", lines)) > 10
