"""Ollama's API says what OpenAI's says, in its own shapes."""

from __future__ import annotations

import json
import threading

import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel
from octavo.serve.ollama.requests import Loading

SAID = [{"role": "user", "content": "Name a colour."}]


@pytest.fixture(scope="module")
def stories_model(stories):
    with load(str(stories)) as model:
        yield model


@pytest.fixture(scope="module")
def running(start_server, stories_model, stories):
    running = start_server([stories_model])
    running.server.serving.models.entries[0].reference = str(stories)
    return running


def lines(answer):
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_lists_show_and_version_describe_the_file(running, stories, stories_model):
    http = running.http()
    assert http.get("/api/version").json()["version"]
    (listed,) = http.get("/api/tags").json()["models"]
    assert listed["name"] == listed["model"] == stories_model.name
    assert listed["size"] == (stories.stat().st_size if stories.is_file() else listed["size"])
    assert listed["details"]["family"] == "llama"
    shown = http.post("/api/show", json={"model": stories_model.name + ":latest"}).json()
    assert shown["model_info"]["llama.block_count"] == stories_model.engine.runner.config.num_layers
    assert "completion" in shown["capabilities"] and "tools" not in shown["capabilities"]
    (loaded,) = http.get("/api/ps").json()["models"]
    assert loaded["expires_at"].startswith("2318") and loaded["context_length"] == stories_model.context_length


def test_a_raw_prompt_is_continued_as_v1_completions_continues_it(running, stories_model):
    options = {"temperature": 0, "num_predict": 12}
    body = {"model": stories_model.name, "prompt": "Once upon", "raw": True, "options": options}
    streamed = lines(running.http().post("/api/generate", json=body))
    whole = running.http().post("/api/generate", json={**body, "stream": False}).json()
    client = running.openai()
    wanted = client.completions.create(model=stories_model.name, prompt="Once upon", temperature=0, max_tokens=12)
    assert "".join(line["response"] for line in streamed) == whole["response"] == wanted.choices[0].text
    assert [line["done"] for line in streamed] == [False] * (len(streamed) - 1) + [True]
    assert (whole["done_reason"], whole["eval_count"]) == ("length", 12)
    assert whole["prompt_eval_count"] == wanted.usage.prompt_tokens
    assert whole["total_duration"] >= whole["prompt_eval_duration"] + whole["eval_duration"] > 0


def test_options_reach_the_model_and_format_and_thinking_too(start_server):
    model = ScriptedModel(["red"])
    running = start_server([model])
    options = {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.2, "seed": 4,
               "stop": ["."], "num_predict": -1, "num_ctx": 2048}  # fmt: skip
    schema = {"type": "object"}
    body = {"model": model.name, "messages": SAID, "options": options, "format": schema, "think": False}
    answer = lines(running.http().post("/api/chat", json=body))
    assert "".join(line["message"]["content"] for line in answer) == "red"
    (request,) = model.requests
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.5, 3, 0.9, 0.1)
    assert (sampling.repetition_penalty, sampling.seed, request.stop, request.max_tokens) == (1.2, 4, (".",), None)
    assert request.constraint.schema == schema
    assert request.template["enable_thinking"] is False
    running.stop()


def test_a_call_comes_whole_and_its_result_goes_back(start_server):
    call = '<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo"}}\n</tool_call>'
    model = ScriptedModel([call, "It is cold."])
    running = start_server([model])
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    body = {"model": model.name, "messages": SAID, "tools": tools}
    first = lines(running.http().post("/api/chat", json=body))
    made = [call for line in first for call in line["message"].get("tool_calls", ())]
    assert made == [{"function": {"name": "weather", "arguments": {"place": "Oslo"}}}]
    assert first[-1]["done_reason"] == "stop"
    said = [*SAID, {"role": "assistant", "tool_calls": made}, {"role": "tool", "tool_name": "weather", "content": "3"}]
    second = running.http().post("/api/chat", json={**body, "messages": said, "stream": False}).json()
    assert second["message"]["content"] == "It is cold."
    assert '"Oslo"' in str(model.requests[1].prompt) and "<tool_response>\\n3" in str(model.requests[1].prompt)
    running.stop()


def test_an_empty_request_loads_and_keep_alive_zero_unloads(start_server):
    running = start_server([ScriptedModel(["x"], name="first")])
    pool = running.server.serving.models
    pool.on_demand("b", lambda: ScriptedModel(["y"], name="b"))
    http = running.http()
    assert http.post("/api/generate", json={"model": "b"}).json()["done_reason"] == "load"
    assert {model["name"] for model in http.get("/api/ps").json()["models"]} == {"first", "b"}
    assert http.post("/api/chat", json={"model": "b", "keep_alive": 0}).json()["done_reason"] == "unload"
    assert {model["name"] for model in http.get("/api/ps").json()["models"]} == {"first"}
    http.post("/api/chat", json={"model": "b", "messages": SAID, "keep_alive": "0s"})
    running.until(lambda: "b" not in pool.loaded)
    running.stop()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("250ms", 0.25), (7, 7), ("8", 8), (-1, float("inf")), ("-1m", float("inf"))],
)
def test_durations_are_read_as_ollama_writes_them(given, seconds):
    assert Loading.model_validate({"model": "x", "keep_alive": given}).keep_alive == seconds


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("chat", {"model": "nobody", "messages": SAID}, 404, "'nobody' is not served"),
        ("chat", {"messages": SAID}, 400, "'model'"),
        ("chat", {"model": "scripted", "messages": SAID, "options": {"num_predicts": 3}}, 400, "num_predict"),
        ("chat", {"model": "scripted", "messages": SAID, "options": {"mirostat": 1}}, 400, "mirostat"),
        (
            "chat",
            {"model": "scripted", "messages": [{"role": "user", "content": "x", "images": ["aa"]}]},
            400,
            "images",
        ),
        ("generate", {"model": "scripted", "prompt": "x", "suffix": "y"}, 400, "suffix"),
        ("generate", {"model": "scripted", "prompt": "x", "keep_alive": "soon"}, 400, "duration"),
        ("show", {}, 400, "model"),
        ("pull", {"model": "x"}, 501, "octavo pull"),
        ("nothing", {}, 404, "/api/nothing"),
    ],
)
def test_what_is_wrong_is_one_sentence(start_server, path, body, status, words):
    running = start_server([ScriptedModel(["x"])])
    answer = running.http().post(f"/api/{path}", json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    running.stop()


def test_embeddings_are_those_of_v1(start_server, minilm):
    running = start_server([ScriptedModel(["x"])], encoders=(str(minilm),))
    http, name = running.http(), minilm.resolve().name
    texts = ["a cat", "a dog"]
    wanted = [entry["embedding"] for entry in http.post("/v1/embeddings", json={"input": texts}).json()["data"]]
    answer = http.post("/api/embed", json={"model": f"{name}:latest", "input": texts, "keep_alive": "5m"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["embeddings"] == wanted and answer.json()["prompt_eval_count"] > 4
    assert http.post("/api/embeddings", json={"model": name, "prompt": "a cat"}).json()["embedding"] == wanted[0]
    assert http.post("/api/embed", json={"model": name, "input": texts, "dimension": 3}).status_code == 400
    running.stop()


def test_a_client_that_leaves_ends_the_answer(start_server):
    model = ScriptedModel(["word " * 4000], delay=0.002)
    running = start_server([model])
    with running.http().stream("POST", "/api/chat", json={"model": model.name, "messages": SAID}) as answer:
        next(answer.iter_lines())
    running.until(lambda: model.closed == 1 and running.server.serving.admission.running == 0)
    assert threading.active_count() < 60
    running.stop()
