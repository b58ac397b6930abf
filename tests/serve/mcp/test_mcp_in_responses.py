"""The tool `mcp` of responses, against a real MCP server: allowed by the operator, approved by the client, called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from octavo.generate.scripted import ScriptedModel
from octavo.serve.mcp.servers import ServerEntry


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def answer(request: Any) -> str:
    """What the model says once it has a result."""
    results = [message["content"] for message in request.prompt if "tool_response" in str(message["content"])]
    return "It is " + results[-1].split()[1] if results else call("add", '{"a": 19, "b": 23}')


def sums(**more: Any) -> dict[str, Any]:
    return {"type": "mcp", "server_label": "sums", **more}


@pytest.fixture(scope="module")
def served(start_server: Any, program: Path) -> Iterator[Callable[..., Any]]:
    """A client of a server that allows the MCP server: served(answers, max_tool_calls...)."""
    entry = ServerEntry("sums", (sys.executable, str(program)), allow=("add", "fail"))
    models = [ScriptedModel([answer], name="adds"), ScriptedModel([call("environment", '{"name": "X"}')], name="asks")]
    models += [ScriptedModel([call("add", '{"a": 1, "b": 1}')], name="never ends")]
    running = start_server(models, mcp_servers=(entry,))
    yield running.openai()
    running.stop()


def test_a_tool_that_both_sides_allow_is_called_and_its_result_answered(served: openai.OpenAI) -> None:
    tool = sums(require_approval="never", allowed_tools=["add"])
    made = served.responses.create(model="adds", input="19 + 23?", tools=[tool])
    listed, called, message = made.output
    assert listed.type == "mcp_list_tools" and [tool.name for tool in listed.tools] == ["add"]
    assert listed.tools[0].input_schema["required"] == ["a", "b"]
    assert (called.type, called.status, called.server_label, called.name) == ("mcp_call", "completed", "sums", "add")
    assert (called.output, called.error, called.arguments) == ("42", None, '{"a": 19, "b": 23}')
    assert message.type == "message" and made.output_text == "It is 42" and made.status == "completed"
    assert made.usage is not None and made.usage.output_tokens > 6, "the tokens of both turns"
    again = served.responses.create(model="adds", input="And?", previous_response_id=made.id, tools=[tool])
    assert again.output_text == "It is 42", "the earlier call and its result are told again"


def test_its_events_come_in_openais_order(served: openai.OpenAI) -> None:
    tool = sums(require_approval="never", allowed_tools={"tool_names": ["add"]})
    with served.responses.stream(model="adds", input="19 + 23?", tools=[tool]) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type.removeprefix("response.") for event in events]
    kinds = [kind for place, kind in enumerate(kinds) if kinds[place - 1 : place] != [kind]]
    assert kinds == [
        "created", "in_progress", "output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed",
        "output_item.done", "output_item.added", "mcp_call.in_progress", "mcp_call_arguments.delta",
        "mcp_call_arguments.done", "mcp_call.completed", "output_item.done", "output_item.added",
        "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.output_text == "It is 42"


@pytest.mark.parametrize("approval", [None, "always", {"never": {"tool_names": ["fail"]}}])
def test_a_call_that_the_request_does_not_allow_is_asked_for(served: openai.OpenAI, approval: Any) -> None:
    tool = sums(**({} if approval is None else {"require_approval": approval}))
    made = served.responses.create(model="adds", input="19 + 23?", tools=[tool])
    asked = made.output[-1]
    assert asked.type == "mcp_approval_request" and asked.arguments == '{"a": 19, "b": 23}' and made.output_text == ""
    yes: Any = {"type": "mcp_approval_response", "approval_request_id": asked.id, "approve": True}
    after = served.responses.create(model="adds", input=[yes], previous_response_id=made.id, tools=[tool])
    assert [item.type for item in after.output] == ["mcp_call", "message"] and after.output_text == "It is 42"
    assert after.output[0].approval_request_id == asked.id and after.output[0].output == "42"
    no = {**yes, "approve": False, "reason": "Not today."}
    refused = served.responses.create(model="adds", input=[no], previous_response_id=made.id, tools=[tool])
    assert [item.type for item in refused.output] == ["message"] and refused.output_text == "It is The"
    with pytest.raises(openai.BadRequestError, match="no mcp_approval_request"):
        served.responses.create(
            model="adds", input=[{**yes, "approval_request_id": "mcpr_1"}], previous_response_id=made.id, tools=[tool]
        )


def test_what_the_operator_did_not_allow_is_asked_for_whatever_the_request_says(served: openai.OpenAI) -> None:
    made = served.responses.create(model="asks", input="x", tools=[sums(require_approval="never")])
    assert made.output[-1].type == "mcp_approval_request" and made.output[-1].name == "environment"


def test_calls_end_at_max_tool_calls(served: openai.OpenAI) -> None:
    tool = sums(require_approval="never")
    made = served.responses.create(model="never ends", input="x", tools=[tool], max_tool_calls=2)
    assert [item.type for item in made.output] == ["mcp_list_tools", "mcp_call", "mcp_call", "message"]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (sums(server_label="other"), "tools.0.server_label"),
        (sums(server_url="http://127.0.0.1:1/mcp"), "tools.0.server_url"),
        (sums(headers={"a": "b"}), "tools.0.headers"),
        (sums(authorization="x"), "tools.0.authorization"),
        (sums(connector_id="connector_gmail"), "tools.0.connector_id"),
        (sums(require_approval="sometimes"), "tools.0.require_approval"),
    ],
)
def test_no_request_brings_a_server_or_a_secret(served: openai.OpenAI, tool: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        served.responses.create(model="adds", input="x", tools=[tool])
    assert refused.value.param == param
    assert "sums.py" not in str(refused.value) and sys.executable not in str(refused.value)


def test_without_mcp_no_server_is_allowed(start_server: Any) -> None:
    running = start_server([ScriptedModel(["x"])])
    with pytest.raises(openai.BadRequestError, match="octavo serve --mcp"):
        running.openai().responses.create(model="scripted", input="x", tools=[sums()])
    running.stop()
