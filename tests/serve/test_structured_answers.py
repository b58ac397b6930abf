"""Structured output over HTTP: a real engine on the smallest real model, whose own words are never JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import openai
import pydantic
import pytest

from octavo.generate.constrain import Choice, Constraint, JsonObject, JsonSchema, Lark, Regex
from octavo.generate.lm import Request, Sampling, complete
from octavo.generate.local import load
from octavo.generate.remote import RemoteModel
from octavo.generate.scripted import ScriptedModel

CAT = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "lives": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["name", "lives"],
    "additionalProperties": False,
}
FORMATS: list[tuple[dict[str, Any], str]] = [
    ({"json": CAT}, "json"),
    ({"json": json.dumps(CAT)}, "json"),
    ({"regex": "[a-z]{3}-[0-9]{2}"}, "[a-z]{3}-[0-9]{2}"),
    ({"choice": ["fox", "hen"]}, "fox|hen"),
    ({"grammar": 'start: "<" /[a-f]{2,4}/ ">"'}, "<[a-f]{2,4}>"),
]


@pytest.fixture(scope="module")
def running(start_server, stories):
    with load(str(stories)) as model:
        running = start_server([model])
        yield running
        running.stop()


def is_cat(text: str) -> bool:
    cat = json.loads(text)
    return list(cat) == ["name", "lives"] and len(cat["name"]) <= 9 and cat["lives"] in range(10)


@pytest.mark.parametrize(("form", "expected"), FORMATS)
def test_completions_keep_structured_outputs_whole_and_streamed(running, form, expected):
    client = running.openai()
    (model,) = client.models.list()
    options: Any = {"model": model.id, "prompt": "Once", "max_tokens": 200, "n": 2, "seed": 5}
    whole = client.completions.create(**options, extra_body={"structured_outputs": form})
    chunks = client.completions.create(**options, extra_body={"structured_outputs": form}, stream=True)
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]
    assert [choice.finish_reason for choice in whole.choices] == ["stop", "stop"]
    assert all(is_cat(text) if expected == "json" else re.fullmatch(expected, text) for text in texts)


def test_a_schema_that_cannot_be_kept_is_a_400_that_names_its_field_also_for_streams(running):
    http = running.http()
    for stream in (False, True):
        for form, field in (
            ({"json": {"type": "array", "uniqueItems": True}}, "structured_outputs.json"),
            ({"regex": "("}, "structured_outputs.regex"),
            ({"grammar": "start: x"}, "structured_outputs.grammar"),
        ):
            response = http.post("/v1/completions", json={"prompt": "x", "stream": stream, "structured_outputs": form})
            error = response.json()["error"]
            assert (response.status_code, error["param"], error["code"]) == (400, field, "invalid_value")


class Answer(pydantic.BaseModel):
    """What a user of the official client declares."""

    kind: Literal["cat", "dog"]
    age: int | None
    friends: list[Literal["ann", "bob"]]


CONSTRAINTS = [
    JsonSchema({"type": "object", "title": "T"}),
    JsonObject(),
    Regex("a+"),
    Choice(("a", "b")),
    Lark('start: "a"'),
]


@pytest.mark.parametrize("prompt", ["x", [{"role": "user", "content": "x"}]])
@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_a_remote_model_passes_a_constraint_on(start_server, prompt: Any, constraint: Constraint):
    scripted = ScriptedModel(["yes"])
    running = start_server([scripted])
    remote = RemoteModel(f"{running.address}/v1")
    complete(remote, Request(prompt, 3, constraint=constraint))
    remote.close()
    running.stop()
    received = scripted.requests[0].constraint
    assert type(received) is type(constraint)
    assert received is not None and received.grammar() == constraint.grammar()


def test_a_remote_model_answers_what_the_local_one_does(running, stories: Path):
    request = Request("Once", 60, Sampling(temperature=0), constraint=Regex("[a-z ]{20,30}[.]"))
    remote = RemoteModel(f"{running.address}/v1")
    with load(str(stories)) as local:
        assert complete(remote, request).text == complete(local, request).text
    remote.close()


def test_parse_reads_the_official_client_s_pydantic_models(start_server):
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return '{"kind": "cat", "age": null, "friends": ["ann"]}'

    running = start_server([ScriptedModel([answer])])
    client: openai.OpenAI = running.openai()
    parsed = client.chat.completions.parse(
        model="scripted", messages=[{"role": "user", "content": "x"}], response_format=Answer
    )
    assert parsed.choices[0].message.parsed == Answer(kind="cat", age=None, friends=["ann"])
    assert isinstance(asked[0].constraint, JsonSchema)
    assert asked[0].constraint.schema["properties"]["kind"]["enum"] == ["cat", "dog"]
    running.stop()
