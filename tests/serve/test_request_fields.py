"""No field of a request is ever ignored in silence, and none can break the server."""

from __future__ import annotations

import json
import typing
from typing import Any

import openai.types.chat.completion_create_params as chat_params
import openai.types.completion_create_params as completion_params
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import chat as chat_types
from openai.types import decision_create_params, shared_params
from openai.types import responses as response_types
from openai.types.conversations import item_create_params
from openai.types.conversations.conversation_create_params import ConversationCreateParams
from openai.types.responses import response_create_params as response_params
from openai.types.responses import response_input_item_param as response_items
from openai.types.shared_params import response_format_json_schema

from octavo.generate.scripted import ScriptedModel
from octavo.serve.api.chat import ChatMessage, ChatRequest, TextPart
from octavo.serve.api.completions import CompletionRequest
from octavo.serve.api.conversations import ConversationRequest, ItemsRequest
from octavo.serve.api.decisions import Choice, DecisionRequest, Predicate, Score
from octavo.serve.fields import Strict
from octavo.serve.responses.items import FunctionCall, FunctionCallOutput, InputMessage, ItemReference, Reasoning
from octavo.serve.responses.request import (
    CountRequest,
    FunctionTool,
    ReasoningOptions,
    ResponseRequest,
    TextFormat,
    TextOptions,
)
from octavo.serve.structured import NamedSchema, ResponseFormat

CHAT: Any = {"messages": [{"role": "user", "content": "x"}]}
TEXT: Any = {"prompt": "x"}
PATHS = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/v1/responses": {"input": "x"}}
TYPES: Any = {
    "/v1/chat/completions": ChatRequest, "/v1/completions": CompletionRequest, "/v1/responses": ResponseRequest,
}  # fmt: skip


@pytest.fixture(scope="module")
def http(start_server):
    running = start_server([ScriptedModel(["yes"])])
    yield running.http()
    running.stop()


@pytest.mark.parametrize(
    ("request_type", "sdk_types"),
    [
        (ChatRequest, [chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming]),
        (
            CompletionRequest,
            [completion_params.CompletionCreateParamsNonStreaming, completion_params.CompletionCreateParamsStreaming],
        ),
        (
            ChatMessage,
            [
                chat_types.ChatCompletionSystemMessageParam,
                chat_types.ChatCompletionDeveloperMessageParam,
                chat_types.ChatCompletionUserMessageParam,
                chat_types.ChatCompletionAssistantMessageParam,
                chat_types.ChatCompletionToolMessageParam,
                chat_types.ChatCompletionFunctionMessageParam,
            ],
        ),
        (
            TextPart,
            [
                chat_types.ChatCompletionContentPartTextParam,
                chat_types.ChatCompletionContentPartRefusalParam,
                chat_types.ChatCompletionContentPartImageParam,
                chat_types.ChatCompletionContentPartInputAudioParam,
            ],
        ),
        (
            ResponseFormat,
            [
                shared_params.ResponseFormatText,
                shared_params.ResponseFormatJSONObject,
                shared_params.ResponseFormatJSONSchema,
            ],
        ),
        (NamedSchema, [response_format_json_schema.JSONSchema]),
        (ResponseRequest, [response_params.ResponseCreateParamsBase, response_params.ResponseCreateParamsStreaming]),
        (CountRequest, [response_types.input_token_count_params.InputTokenCountParams]),
        (InputMessage, [response_types.EasyInputMessageParam, response_types.ResponseOutputMessageParam]),
        (FunctionCall, [response_types.ResponseFunctionToolCallParam]),
        (FunctionCallOutput, [response_items.FunctionCallOutput]),
        (Reasoning, [response_types.ResponseReasoningItemParam]),
        (ItemReference, [response_items.ItemReference]),
        (FunctionTool, [response_types.FunctionToolParam]),
        (ReasoningOptions, [shared_params.Reasoning]),
        (TextOptions, [response_types.ResponseTextConfigParam]),
        (TextFormat, [response_types.ResponseFormatTextJSONSchemaConfigParam, shared_params.ResponseFormatText]),
        (ConversationRequest, [ConversationCreateParams]),
        (ItemsRequest, [item_create_params.ItemCreateParams]),
        (DecisionRequest, [decision_create_params.DecisionCreateParams]),
        (Predicate, [decision_create_params.QuestionQuestionParamPredicate]),
        (Choice, [decision_create_params.QuestionQuestionParamChoice]),
        (Score, [decision_create_params.QuestionQuestionParamScore]),
    ],
)
def test_every_field_of_the_sdk_is_known_in_exactly_one_way(request_type: type[Strict], sdk_types: list[Any]):
    fields = {name for sdk_type in sdk_types for name in _spelled(sdk_type)}
    assert fields
    assert fields <= {*request_type.field_names(), *request_type.refused}
    assert not set(request_type.field_names()) & set(request_type.refused)


def _spelled(sdk_type: Any) -> list[str]:
    """The fields as a body spells them: `include` of new items goes into the address, and Python reserves `async`."""
    in_address = {"include"} if sdk_type is item_create_params.ItemCreateParams else set()
    names = set(typing.get_type_hints(sdk_type)) - in_address
    return ["async" if name.strip("_") == "async" else name for name in names]


@pytest.mark.parametrize(
    ("path", "field"),
    [(path, name) for path in PATHS for name in sorted(TYPES[path].refused)],
)
def test_a_field_without_support_is_refused_by_name_and_its_neutral_value_is_not(http, path, field):
    request_type = TYPES[path]
    response = http.post(path, json={**PATHS[path], field: {"some": "thing"}})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported_parameter"
    assert response.json()["error"]["param"] == field
    for neutral in (*request_type.refused[field], None):
        assert http.post(path, json={**PATHS[path], field: neutral}).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_null_counts_as_absent_in_every_field(http, path):
    request_type = TYPES[path]
    nulls = dict.fromkeys((*request_type.model_fields, *request_type.refused))
    assert http.post(path, json={**nulls, **PATHS[path]}).status_code == 200


@pytest.mark.parametrize(
    ("extra", "param", "code"),
    [
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_value"),
        ({"temperature": "1"}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"n": 17}, "n", "invalid_value"),
        ({"n": 1.0}, "n", "invalid_value"),
        ({"seed": True}, "seed", "invalid_value"),
        ({"seed": 1 << 63}, "seed", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": ["a", ""]}, "stop.1", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "invalid_value"),
        ({"logit_bias": {"foo": 0}}, "logit_bias", "invalid_value"),
        ({"logit_bias": [1]}, "logit_bias", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "unknown_parameter"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 64}", "invalid_value"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "invalid_value"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
            "invalid_value",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "{}"}}},
            "response_format.json_schema.schema",
            "invalid_value",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "shema": {}}}},
            "response_format.json_schema.shema",
            "unknown_parameter",
        ),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "structured_outputs",
            "invalid_value",
        ),
        ({"structured_outputs": {}}, "structured_outputs", "invalid_value"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "invalid_value"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "invalid_value"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "invalid_value"),
        ({"structured_outputs": {"json": "[]"}}, "structured_outputs.json", "invalid_value"),
        ({"structured_outputs": {"regexp": "a"}}, "structured_outputs.regexp", "unknown_parameter"),
        ({"structured_outputs": {"structural_tag": "a"}}, "structured_outputs.structural_tag", "unsupported_parameter"),
        ({"structured_outputs": {"grammar": "x" * 65537}}, "structured_outputs.grammar", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": "hi"}, "messages", "invalid_value"),
        ({"messages": ["hi"]}, "messages.0", "invalid_value"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", "invalid_value"),
        ({"messages": [{"content": "x"}]}, "messages.0.role", "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "invalid_value"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x", "nam": "y"}]}, "messages.0.nam", "unknown_parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages.0.content.0.image_url",
            "unsupported_parameter",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
            "messages.0.tool_calls.0.id",
            "missing_required_parameter",
        ),
        ({"model": "nope"}, "model", "model_not_found"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(http, extra, param, code):
    response = http.post("/v1/chat/completions", json={**CHAT, **extra})
    error = response.json()["error"]
    assert response.status_code == (404 if code == "model_not_found" else 400)
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")


def test_an_unknown_field_is_told_in_openais_words_with_the_nearest_known(http):
    for field, message in (
        ("xyzzy", "Unknown parameter: 'xyzzy'."),
        ("max_token", "Unknown parameter: 'max_token'. Did you mean 'max_tokens'?"),
    ):
        response = http.post("/v1/chat/completions", json={**CHAT, field: 1})
        assert response.json()["error"]["message"] == message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b'"x"',
        b"\xff\xfe",
        b'{"prompt": "x", "temperature": NaN}',
        b'{"prompt": "x", "temperature": 1e999}',
        b'{"prompt": "x", "seed": 1' + b"0" * 5000 + b"}",
        b'{"prompt": "x", "temperature": 1' + b"0" * 400 + b"}",
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "x", "\\ud800": 1}',
        b'{"prompt": "x", "model": "\\ud800"}',
        b'{"prompt": "x", "logit_bias": {"\\ud800": 1}}',
        b"[" * 100000,
        b'{"prompt": ' * 5000 + b"1" + b"}" * 5000,
    ],
)
def test_a_body_that_is_no_request_is_a_400_in_openais_shape(http, body):
    response = http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 404)
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_a_field_holds_the_answer_is_no_server_error(http, path, data):
    request_type = TYPES[path]
    names = st.sampled_from([*request_type.model_fields, *request_type.refused]) | st.text(max_size=12)
    body = {**PATHS[path], **data.draw(st.dictionaries(names, json_values, max_size=3))}
    response = http.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    assert response.status_code < 500
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("query", "param"), [("limit=101", "limit"), ("limit=x", "limit"), ("order=up", "order"), ("after[]=a", "after[]")]
)
def test_a_wrong_query_is_named(http, query, param):
    error = http.get(f"/v1/chat/completions?{query}").json()["error"]
    assert error["param"] == param and repr(param) in error["message"]


def test_a_text_that_is_too_long_is_told_in_characters_and_a_nameless_field_as_such(http):
    asked = {"messages": [{"role": "user", "content": "x"}]}
    long = http.post("/v1/chat/completions", json={**asked, "stop": ["a" * 2000]}).json()["error"]
    assert long["param"] == "stop.0" and "over 1024 characters" in long["message"]
    assert http.post("/v1/chat/completions", json={**asked, "": 1}).json()["error"]["param"] == ""
