"""Tool calls through the official client: asked for, streamed, forced, and sent back with their results."""

from __future__ import annotations

import json
import string
from typing import Any

import openai
import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel
from octavo.serve.tools import Function, Tools
from octavo.text.tokenizer import Tokenizer

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Paris", "Taipei"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
ASK: Any = [{"role": "user", "content": "Will it rain?"}]
CALLS = (
    'Let me see. <tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def served(start_server):
    model = ScriptedModel([CALLS])
    running = start_server([model])
    yield model, running.openai()
    running.stop()


@pytest.fixture(scope="module")
def smol(start_server, smollm2):
    with load(str(smollm2), context=1024) as model:
        running = start_server([model])
        yield running.openai()
        running.stop()


def test_calls_are_read_whole(served):
    _, client = served
    choice = client.chat.completions.create(model="scripted", messages=ASK, tools=[WEATHER, CLOCK]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls] == [
        ("weather", {"city": "Paris", "days": 2}),
        ("clock", {}),
    ]
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_the_clients_own_stream_puts_the_same_calls_together(served):
    _, client = served
    with client.chat.completions.stream(model="scripted", messages=ASK, tools=[WEATHER, CLOCK]) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.delta" in kinds
    assert [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls] == [
        ("weather", {"city": "Paris", "days": 2}),
        ("clock", {}),
    ]


def test_a_streams_chunks_name_a_call_once(served):
    _, client = served
    chunks = client.chat.completions.create(model="scripted", messages=ASK, tools=[WEATHER, CLOCK], stream=True)
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name) for call in calls if call.function.name] == [(0, "weather"), (1, "clock")]
    assert [bool(call.id) for call in calls] == [bool(call.function.name) for call in calls]


def test_without_tools_the_same_text_is_text(served):
    _, client = served
    choice = client.chat.completions.create(model="scripted", messages=ASK).choices[0]
    assert (choice.message.content, choice.finish_reason) == (CALLS, "stop")
    off = client.chat.completions.create(model="scripted", messages=ASK, tools=[WEATHER], tool_choice="none")
    assert off.choices[0].message.content == CALLS


def test_the_old_fields_give_the_old_shape(served):
    _, client = served
    choice = client.chat.completions.create(
        model="scripted", messages=ASK, functions=[WEATHER["function"]], function_call="auto"
    ).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call.name.startswith("weather")


def test_a_model_whose_template_knows_no_tools_is_told_in_words(served):
    model, client = served
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Paris", "days": 2}'},
    }
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        *ASK,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    client.chat.completions.create(model="scripted", messages=messages, tools=[WEATHER])
    system, _, called, result = model.requests[-1].prompt
    assert system["content"].startswith("Be brief.\n\n# Tools")
    assert json.dumps(Function(**WEATHER["function"]).for_template()) in system["content"]
    assert called["content"].startswith('<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"')
    assert result == {"role": "user", "content": "<tool_response>\nrain\n</tool_response>"}


def test_a_template_that_knows_tools_gets_them_as_they_are():
    tools = Tools.of([Function(**WEATHER["function"])], "auto", parallel=True)
    template = "{% for tool in tools %}<tool_call></tool_call>{% endfor %}"
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    assert tools.told([call], template) == [call]
    assert tools.variables(template) == {"tools": [Function(**WEATHER["function"]).for_template()]}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_small_model_that_must_call_makes_a_valid_call(smol, choice):
    for seed in range(3):
        answer = smol.chat.completions.create(
            model=smol.models.list().data[0].id,
            messages=ASK,
            tools=[CLOCK, WEATHER],
            tool_choice=choice,
            parallel_tool_calls=False,
            temperature=1.5,
            seed=seed,
            max_tokens=120,
        ).choices[0]
        assert answer.finish_reason == "tool_calls"
        (call,) = answer.message.tool_calls
        arguments = json.loads(call.function.arguments)
        if call.function.name == "weather":
            assert arguments["city"] in ("Paris", "Taipei") and 1 <= arguments["days"] <= 9
        else:
            assert (call.function.name, arguments, choice) == ("clock", {}, "required")


def test_allowed_tools_narrow_the_choice(smol):
    choice: Any = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CLOCK]}}
    answer = smol.chat.completions.create(
        model=smol.models.list().data[0].id, messages=ASK, tools=[WEATHER, CLOCK], tool_choice=choice, max_tokens=120
    )
    assert {call.function.name for call in answer.choices[0].message.tool_calls} == {"clock"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "wether"}}}, "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools.0.custom"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools.0.function.name"),
        ({"tools": [WEATHER], "tool_choice": "required", "response_format": {"type": "json_object"}}, "tool_choice"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(served, fields, param):
    _, client = served
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="scripted", messages=ASK, extra_body=fields)
    assert refused.value.param == param


def test_tokens_of_thoughts_are_counted(start_server):
    model = ScriptedModel(["<think> so that is it </think> The answer."])
    model.tokenizer = Tokenizer.train_characters(string.printable)
    model.tokenizer.chat_templates["default"] = "{{ messages[-1].content }}{# <think> #}"
    running = start_server([model])
    client = running.openai()
    asked = {"model": "scripted", "messages": [{"role": "user", "content": "x"}], "store": True}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content.strip() == "The answer."
    *_, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    kept = client.chat.completions.retrieve(whole.id)
    for usage in (whole.usage, last.usage, kept.usage):
        assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (8, 6)
    answer = client.responses.create(model="scripted", input="x")
    assert answer.usage.output_tokens_details.reasoning_tokens == 6
    running.stop()
