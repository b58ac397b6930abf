"""Chat completions through the official client, and the bytes of a stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from octavo.errors import ContextLengthError, OctavoError, RemoteError
from octavo.generate.lm import Request
from octavo.generate.scripted import ScriptedModel, ScriptedStream

SAID = "Hello there, my dear friend."
HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel([SAID], name="house/scripted")


@pytest.fixture
def running(start_server, model):
    running = start_server([model])
    yield running
    running.stop()


@pytest.fixture
def client(running) -> openai.OpenAI:
    return running.openai()


def test_the_client_lists_and_retrieves_models_whose_ids_hold_slashes(client):
    assert [entry.id for entry in client.models.list()] == ["house/scripted"]
    entry = client.models.retrieve("house/scripted")
    assert entry.context_length == 1 << 20
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("house/other")
    assert refused.value.code == "model_not_found"
    assert "house/scripted" in refused.value.message


def test_a_whole_answer_has_text_reason_and_usage(client):
    answer = client.chat.completions.create(model="house/scripted", messages=HI)
    assert answer.choices[0].message.content == SAID
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_a_stream_gives_the_same_text_and_counts_when_asked(client):
    plain = list(client.chat.completions.create(model="house/scripted", messages=HI, stream=True))
    assert all(chunk.choices for chunk in plain)
    counted = list(
        client.chat.completions.create(
            model="house/scripted", messages=HI, stream=True, stream_options={"include_usage": True}
        )
    )
    assert counted[-1].choices == [] and counted[-1].usage.completion_tokens == 5
    for chunks in (plain, counted[:-1]):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SAID
        assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


def test_the_bytes_of_a_stream_are_as_openai_sends_them(running):
    body = {"messages": HI, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 1}
    response = running.http().post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"].startswith("req_")
    *lines, last = response.text.strip().split("\n\n")
    assert last == "data: [DONE]"
    role, text, end, usage = (json.loads(line.removeprefix("data: ")) for line in lines)
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text["choices"][0]["delta"] == {"content": "Hello"}
    assert end["choices"][0]["delta"] == {} and end["choices"][0]["finish_reason"] == "length"
    assert [chunk["usage"] for chunk in (role, text, end)] == [None] * 3
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 1


def test_logprobs_come_for_each_token_whole_and_streamed(client):
    options: Any = {"model": "house/scripted", "messages": HI, "logprobs": True, "top_logprobs": 1}
    whole = client.chat.completions.create(**options).choices[0].logprobs.content
    streamed = [
        token
        for chunk in client.chat.completions.create(stream=True, **options)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert whole == streamed
    assert "".join(token.token for token in whole) == SAID
    assert bytes(whole[0].bytes) == b"Hello" and whole[0].top_logprobs[0].logprob == whole[0].logprob


def test_n_answers_differ_by_seed_and_their_prompt_counts_once(client, model):
    answer = client.chat.completions.create(model="house/scripted", messages=HI, n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {request.sampling.seed for request in model.requests} == {7, 8, 9}
    assert answer.usage.completion_tokens == 15
    assert answer.usage.prompt_tokens == len(str(model.requests[0].prompt).split())
    chunks = list(client.chat.completions.create(model="house/scripted", messages=HI, n=2, stream=True))
    for index in (0, 1):
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert "".join(choice.delta.content or "" for choice in mine) == SAID
        assert mine[0].delta.role == "assistant" and mine[-1].finish_reason == "stop"


def test_sampling_fields_reach_the_model_and_the_rest_is_the_models_advice(client, model):
    client.chat.completions.create(
        model="house/scripted",
        messages=HI,
        temperature=0.5,
        top_p=0.25,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"5": -100},
        stop=["xyz"],
        max_completion_tokens=9,
        extra_body={"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.5, "stop_token_ids": [4], "ignore_eos": True},
    )
    request = model.requests[0]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.25, 3, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (1, -1, 1.5)
    assert sampling.logit_bias == {5: -100}
    assert (request.stop, request.stop_token_ids, request.ignore_eos, request.max_tokens) == (("xyz",), (4,), True, 9)
    client.chat.completions.create(model="house/scripted", messages=HI)
    assert model.requests[1].sampling == model.sampling and model.requests[1].max_tokens is None


def test_a_stop_text_ends_the_answer_and_is_not_in_it(client):
    answer = client.chat.completions.create(model="house/scripted", messages=HI, stop="my")
    assert answer.choices[0].message.content == "Hello there, "
    assert answer.choices[0].finish_reason == "stop"


def test_parts_and_the_developers_role_become_what_templates_know(client, model):
    client.chat.completions.create(
        model="house/scripted",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "refusal": "No.", "content": None},
            {"role": "user", "content": "", "name": "Ann"},
        ],
    )
    assert model.requests[0].prompt == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one\ntwo"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "", "name": "Ann"},
    ]


def test_the_asynchronous_client_runs_several_at_once(running):
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{running.address}/v1", api_key="-") as client:

            async def one() -> str:
                stream = await client.chat.completions.create(model="house/scripted", messages=HI, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(8)))

    assert asyncio.run(ask()) == [SAID] * 8


class Failing(ScriptedModel):
    """Raises when asked, or in the middle of its answer."""

    def __init__(self, error: Exception, *, midway: bool) -> None:
        super().__init__([SAID])
        self.error, self.midway = error, midway

    def stream(self, request: Request) -> Any:
        if not self.midway:
            raise self.error
        return self._break_off(super().stream(request))

    def _break_off(self, stream: ScriptedStream) -> Any:
        error = self.error

        class Broken:
            def __iter__(self) -> Any:
                yield next(stream)
                yield next(stream)
                raise error

            def close(self) -> None:
                stream.close()

        return Broken()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (ContextLengthError("the context holds 8 tokens, 9 were asked"), 400, "context_length_exceeded", "messages"),
        (OctavoError("token id 9 does not exist", param="logit_bias"), 400, "invalid_value", "logit_bias"),
        (RemoteError("the other server is away"), 502, "remote_error", None),
        (RuntimeError("secret prompt"), 500, "server_error", None),
    ],
)
def test_a_refusal_by_the_model_is_a_real_http_error(start_server, stream, error, status, code, param):
    running = start_server([Failing(error, midway=False)])
    with pytest.raises(openai.APIStatusError) as raised:
        running.openai().chat.completions.create(model="scripted", messages=HI, stream=stream)
    assert (raised.value.status_code, raised.value.code, raised.value.param) == (status, code, param)
    assert "secret" not in raised.value.message
    running.stop()


def test_a_failure_midway_ends_the_stream_with_an_error_event_and_tells_no_secret(start_server, caplog):
    running = start_server([Failing(RuntimeError("secret prompt"), midway=True)])
    with pytest.raises(openai.APIError, match="req_"):
        list(running.openai().chat.completions.create(model="scripted", messages=HI, stream=True))
    text = running.http().post("/v1/chat/completions", json={"messages": HI, "stream": True}).text
    assert '"code":"server_error"' in text and "[DONE]" not in text and "secret" not in text
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text
    running.stop()
