"""The Responses API through the official client: whole, streamed, continued, kept, replayed, in the background."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from typing import Any

import openai
import pydantic
import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel
from octavo.serve.state import State

CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


@pytest.fixture
def served(start_server):
    model = ScriptedModel(["one two three"])
    running = start_server([model])
    yield model, running
    running.stop()


@pytest.fixture(scope="module")
def http(start_server):
    running = start_server([ScriptedModel(["yes"])])
    yield running.http()
    running.stop()


def test_an_answer_has_text_usage_and_can_be_read_again(served):
    _, running = served
    client = running.openai()
    made = client.responses.create(model="scripted", input="count", instructions="Be brief.", metadata={"a": "b"})
    assert (made.output_text, made.status) == ("one two three", "completed")
    assert (made.usage.output_tokens, made.usage.total_tokens) == (3, made.usage.input_tokens + 3)
    again = client.responses.retrieve(made.id)
    assert again.to_dict() == made.to_dict()
    (item,) = client.responses.input_items.list(made.id).data
    assert item.content[0].text == "count"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_the_clients_stream_puts_the_response_together_and_it_can_be_replayed(served):
    _, running = served
    client = running.openai()
    with client.responses.stream(model="scripted", input="count") as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == "one two three"
    told = [event.to_dict() for event in client.responses.create(model="scripted", input="count", stream=True)]
    replayed = client.responses.retrieve(told[0]["response"]["id"], stream=True, starting_after=3)
    assert [event.to_dict() for event in replayed] == told[4:]


def test_a_response_goes_on_from_the_one_before_and_a_conversation_collects_what_was_said(served):
    model, running = served
    client = running.openai()
    first = client.responses.create(model="scripted", input="first")
    client.responses.create(model="scripted", input="second", previous_response_id=first.id, instructions="New rules.")
    assert [(m["role"], m["content"]) for m in model.requests[-1].prompt] == [
        ("system", "New rules."), ("user", "first"), ("assistant", "one two three"), ("user", "second"),
    ]  # fmt: skip
    talk = client.conversations.create(items=[{"role": "developer", "content": "Be kind."}])
    client.responses.create(model="scripted", input="hello", conversation=talk.id)
    client.responses.create(model="scripted", input="again", conversation=talk.id)
    assert [(m["role"], m["content"]) for m in model.requests[-1].prompt] == [
        ("system", "Be kind."), ("user", "hello"), ("assistant", "one two three"), ("user", "again"),
    ]  # fmt: skip
    items = client.conversations.items.list(talk.id, order="asc", limit=2)
    assert [item.role for item in items.data] == ["developer", "user"]
    assert [item.role for item in items] == ["developer", "user", "assistant", "user", "assistant"]
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="scripted", input="x", previous_response_id="resp_none")
    assert refused.value.code == "previous_response_not_found"


def test_a_call_of_a_function_and_its_result_go_round(start_server):
    model = ScriptedModel([f"Let me see. {CALL}", "It rains."])
    running = start_server([model])
    client = running.openai()
    asked: list[Any] = [{"role": "user", "content": "Rain?"}]
    first = client.responses.create(model="scripted", input=asked, tools=[WEATHER])
    message, call = first.output
    assert (message.content[0].text, call.name, json.loads(call.arguments)) == (
        "Let me see.", "weather", {"city": "Paris"},
    )  # fmt: skip
    asked += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    second = client.responses.create(model="scripted", input=asked, tools=[WEATHER])
    assert second.output_text == "It rains."
    assert "<tool_response>\nrain\n</tool_response>" in model.requests[-1].prompt[-1]["content"]
    with client.responses.stream(model="scripted", input="x", tools=[WEATHER]) as stream:
        assert stream.get_final_response().output_text == "It rains."
    running.stop()


def test_what_codex_sends_is_answered_and_what_it_can_leave_out_is_refused_by_name(served):
    model, running = served
    tools = [WEATHER, {"type": "web_search"}]
    body = {
        "model": model.name, "stream": True, "store": False, "tool_choice": "auto", "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "01a2",
        "client_metadata": {"originator": "codex_exec"},
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        ],
    }  # fmt: skip
    answer = running.http().post("/v1/responses", json={**body, "tools": tools[:1]})
    assert answer.status_code == 200 and "response.completed" in answer.text
    refusal = running.http().post("/v1/responses", json={**body, "tools": tools}).json()["error"]
    assert refusal["param"] == "tools.1.type" and "'web_search'" in refusal["message"]


def test_a_response_in_the_background_survives_its_client_and_can_be_cancelled(start_server):
    running = start_server([ScriptedModel(["word " * 400], delay=0.01)])
    client = running.openai()
    made = client.responses.create(model="scripted", input="x", background=True)
    assert made.status == "queued"
    assert client.responses.retrieve(made.id).status == "in_progress"
    stream = client.responses.create(model="scripted", input="x", background=True, stream=True)
    other = next(iter(stream)).response.id
    stream.close()
    running.until(lambda: len(client.responses.retrieve(other).output) > 0)
    cancelled = client.responses.cancel(made.id)
    assert cancelled.status == "cancelled"
    assert client.responses.cancel(made.id).output_text == cancelled.output_text
    client.responses.cancel(other)
    running.until(lambda: running.server.serving.admission.running == 0)
    running.stop()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_who_leaves_ends_its_response(start_server, stream):
    model = ScriptedModel(["word " * 4000], delay=0.01)
    running = start_server([model])
    client = running.openai(timeout=0.3)
    with pytest.raises(openai.APITimeoutError) if not stream else pytest.raises(StopIteration):
        answer = client.responses.create(model="scripted", input="x", stream=stream)
        next(iter(answer))
        answer.close()
        raise StopIteration
    running.until(lambda: model.closed == 1 and running.server.serving.admission.running == 0)
    running.stop()


def test_a_form_and_log_probabilities_are_kept(start_server, smollm2):
    class Cat(pydantic.BaseModel):
        lives: int

    with load(str(smollm2), context=1024) as model:
        running = start_server([model])
        client = running.openai()
        parsed = client.responses.parse(model=model.name, input="A cat.", text_format=Cat, max_output_tokens=40)
        assert isinstance(parsed.output_parsed, Cat)
        scored = client.responses.create(
            model=model.name,
            input="Say hi.",
            max_output_tokens=3,
            temperature=0,
            include=["message.output_text.logprobs"],
            top_logprobs=2,
        )
        assert (scored.status, scored.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        logprobs = scored.output[0].content[0].logprobs
        assert [len(entry.top_logprobs) for entry in logprobs] == [2, 2, 2]
        assert "".join(entry.token for entry in logprobs) == scored.output_text
        counted = client.responses.input_tokens.count(model=model.name, input="Say hi.")
        assert counted.input_tokens == scored.usage.input_tokens
        running.stop()


def test_stored_completions_are_listed_by_label_changed_and_forgotten(served):
    _, running = served
    client = running.openai()
    ask: Any = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
    kept = client.chat.completions.create(**ask, store=True, metadata={"run": "a.b"})
    list(client.chat.completions.create(**ask, store=True, metadata={"run": "2"}, stream=True))
    client.chat.completions.create(**ask)
    assert [entry.metadata for entry in client.chat.completions.list()] == [{"run": "a.b"}, {"run": "2"}]
    assert [entry.id for entry in client.chat.completions.list(metadata={"run": "a.b"})] == [kept.id]
    streamed = client.chat.completions.list(metadata={"run": "2"}).data[0]
    assert streamed.choices[0].message.content == "one two three"
    assert client.chat.completions.update(kept.id, metadata={"x": "y"}).metadata == {"x": "y"}
    assert client.chat.completions.messages.list(kept.id).data[0].content == "hi"
    client.chat.completions.delete(kept.id)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(kept.id)


def test_without_a_store_nothing_is_kept(start_server):
    running = start_server([ScriptedModel(["x"])], store=False)
    client = running.openai()
    made = client.responses.create(model="scripted", input="a")
    client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "a"}], store=True)
    assert client.chat.completions.list().data == []
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    running.stop()


def test_what_a_killed_server_acknowledged_is_there_and_what_it_left_unfinished_has_failed(tmp_path, start_server):
    path = tmp_path / "state.sqlite3"
    program = f"""
import itertools, os, sys
from pathlib import Path
from octavo.serve.state import State
state = State(Path({str(path)!r}))
state.put("response", "", {{"id": "resp_open", "status": "in_progress", "previous_response_id": None, "output": []}})
for number in itertools.count():
    state.put("conversation", "", {{"id": str(number), "metadata": {{}}}})
    print(number, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(50)]
    child.kill()
    told += [int(line) for line in child.stdout.read().split("\n")[:-1]]
    child.wait()
    child.stdout.close()
    state = State(path)
    assert all(state.get("conversation", "", str(number)) for number in told)
    state.close()
    running = start_server([ScriptedModel(["x"])], state_path=path)
    assert running.openai().responses.retrieve("resp_open").status == "failed"
    running.stop()
    assert path.stat().st_mode & 0o077 == 0


def test_two_keys_do_not_see_each_others_rows(tmp_path, start_server):
    path = tmp_path / "state.sqlite3"
    running = start_server([ScriptedModel(["x"])], state_path=path, api_key="first")
    made = running.openai(api_key="first").responses.create(model="scripted", input="a")
    running.stop()
    running = start_server([ScriptedModel(["x"])], state_path=path, api_key="second")
    with pytest.raises(openai.NotFoundError):
        running.openai(api_key="second").responses.retrieve(made.id)
    running.stop()
    with sqlite3.connect(path) as database:
        text = str(database.execute("SELECT * FROM object").fetchall())
    database.close()
    assert made.id in text
    assert "first" not in text.replace(made.id, "")


def test_many_at_once_are_kept_whole(start_server):
    running = start_server([ScriptedModel(["one two three"], delay=0.001)])
    client = running.openai()
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(client.responses.create(model="scripted", input="x").id))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {client.responses.retrieve(name).output_text for name in ids} == {"one two three"}
    assert len(set(ids)) == 20
    running.stop()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"inputs": "x"}, "inputs"),
        ({"input": [{"type": "computer_call"}]}, "input"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"background": True, "store": False}, "background"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text"),
        ({"include": ["everything"]}, "include.0"),
        ({"input": "x", "conversation": "conv_none"}, None),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(served, fields, param):
    _, running = served
    answer = running.http().post("/v1/responses", json={"input": "x", **fields})
    assert answer.status_code in (400, 404)
    assert str(answer.json()["error"]["param"]).startswith(str(param))


def test_a_streamed_response_that_the_model_refuses_is_an_http_error(start_server, stories):
    with load(str(stories)) as model:
        running = start_server([model])
        client = running.openai()
        model.tokenizer.chat_templates["default"] = "{{ messages[-1].content }}"
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=model.name, input="word " * 2000, stream=True)
        assert refused.value.code == "context_length_exceeded"
        running.stop()


@pytest.mark.parametrize(
    "item",
    [
        {"type": ["message"]},
        {"type": {}},
        {"type": None, "role": "user"},
        {"type": "item_reference", "id": "\u0000"},
        {"type": "mcp_approval_response", "approval_request_id": "x", "approve": True},
    ],
)
def test_an_item_of_an_odd_form_is_the_clients_mistake(http, item):
    answer = http.post("/v1/responses", json={"input": [item, {"role": "user", "content": "x"}]})
    assert answer.status_code == 400 and answer.json()["error"]["param"].startswith("input"), answer.text


@pytest.mark.parametrize("error", [None, "x", [1], {"content": 1}, {"content": [1]}, {"content": [{"text": "no pen"}]}])
def test_a_call_of_an_mcp_server_comes_back_with_any_error(http, error):
    call = {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "n", "arguments": "[[", "error": error}
    listed = {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": [1]}
    asked = {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "n", "arguments": "{"}
    refused = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False}
    answer = http.post(
        "/v1/responses", json={"input": [listed, call, asked, refused, {"role": "user", "content": "x"}]}
    )
    assert answer.status_code == 200, answer.text


def test_a_kept_item_is_referred_to_by_its_id(http):
    made = http.post("/v1/responses", json={"input": [{"role": "user", "content": "x", "id": "msg_mine"}]}).json()
    again = http.post("/v1/responses", json={"input": [{"type": "item_reference", "id": "msg_mine"}]}).json()
    kept = http.get(f"/v1/responses/{again['id']}/input_items").json()["data"]
    assert made["status"] == "completed" and kept[0]["content"][0]["text"] == "x"


def test_what_is_deleted_while_it_is_made_stays_deleted(start_server):
    running = start_server([ScriptedModel(["word " * 200], delay=0.01)])
    http = running.http()
    conversation = http.post("/v1/conversations", json={}).json()["id"]
    asked = {"input": "x", "background": True, "conversation": conversation}
    deleted, other = (http.post("/v1/responses", json=asked).json()["id"] for _ in range(2))
    assert http.delete(f"/v1/responses/{deleted}").status_code == 200
    assert http.get(f"/v1/responses/{deleted}").status_code == 404
    assert http.delete(f"/v1/conversations/{conversation}").status_code == 200
    running.until(lambda: http.get(f"/v1/responses/{other}").json()["status"] == "completed", 30)
    assert http.get(f"/v1/responses/{deleted}").status_code == 404
    state, owner = running.server.serving.state, running.server.serving.owner
    assert state.children("item", owner, conversation) == []
    assert http.delete(f"/v1/responses/{deleted}").status_code == 404
    running.stop()
