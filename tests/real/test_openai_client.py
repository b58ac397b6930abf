"""The real SmolLM2 in a real server process, through the official client: the golden texts, token by token."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import openai
import pydantic
import pytest

from octavo.models.checkpoint import open_checkpoint

SOURCE = Path(__file__).resolve().parents[2] / "src"
SCRIPT = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from octavo.serve.http.server import run
from octavo.serve.http.settings import ServerSettings

def load():
    from octavo.generate.local import load
    return [load(sys.argv[1])]

run(load, ServerSettings(port=0), on_ready=lambda address, names: print(address, *names, flush=True))
"""
DECIDED = 0.5
"""Where the two likeliest tokens are nearer than this, a runner with rounded activations may choose the other."""


@pytest.fixture(scope="module")
def client(smollm2: Path) -> Iterator[openai.OpenAI]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(smollm2)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[0]
    with openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0) as client:
        yield client
    process.terminate()
    assert process.wait(15) == 0
    process.stdout.close()


@pytest.fixture
def name(client: openai.OpenAI) -> str:
    (model,) = client.models.list()
    assert model.context_length == 8192
    return model.id


@pytest.mark.parametrize("conversation", ["chat", "chat_multi"])
def test_the_golden_answer_comes_token_by_token(client, name, golden, conversation):
    expected = golden["greedy"][conversation]
    options: Any = {"model": name, "messages": expected["messages"], "temperature": 0, "max_tokens": 40}
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options))
    texts = [chunk.choices[0].delta.content for chunk in chunks[:-1] if chunk.choices[0].delta.content]
    assert "".join(texts) == expected["text_until_eos"]
    assert len(texts) == expected["first_eos_index"]
    assert chunks[-1].usage.prompt_tokens == len(expected["prompt_ids"])
    assert client.chat.completions.create(**options).choices[0].message.content == expected["text_until_eos"]


def test_a_prediction_makes_no_other_answer_and_its_tokens_are_counted(client, name, golden):
    expected = golden["greedy"]["chat_multi"]
    text = expected["text_until_eos"]
    options: Any = {"model": name, "messages": expected["messages"], "temperature": 0, "max_tokens": 40}
    counts = []
    for content in (text, [{"type": "text", "text": "Something else "}, {"type": "text", "text": "altogether."}], None):
        prediction = None if content is None else {"type": "content", "content": content}
        answer = client.chat.completions.create(**options, prediction=prediction)
        assert answer.choices[0].message.content == text
        details = answer.usage.completion_tokens_details
        counts.append((details.accepted_prediction_tokens, details.rejected_prediction_tokens))
    (right, wrong), (none, refused), nothing = counts
    assert right >= expected["first_eos_index"] // 2 > wrong and none == 0 < refused and nothing == (0, 0)


def test_text_and_its_ids_continue_alike(client, name, golden):
    expected = golden["greedy"]["raw"]
    options: Any = {"model": name, "temperature": 0, "max_tokens": 12}
    text, ids = (
        client.completions.create(prompt=prompt, **options).choices[0].text
        for prompt in (expected["text"], expected["prompt_ids"])
    )
    assert text == ids != ""


def test_ids_continue_with_the_golden_ids_where_those_are_decided(client, name, golden, smollm2):
    expected = golden["greedy"]["raw"]
    ids, gaps = expected["new_ids_40_no_stop"], expected["gaps"]
    start = 1 + max(place for place, gap in enumerate(gaps[:30]) if gap <= DECIDED)
    answer = client.completions.create(
        model=name,
        prompt=expected["prompt_ids"] + ids[:start],
        temperature=0,
        max_tokens=30 - start,
    )
    assert start < 25
    assert answer.choices[0].text == open_checkpoint(smollm2).tokenizer().decode(ids[start:30])


def test_echoed_logprobs_are_those_of_the_golden_perplexity(client, name, golden):
    expected = golden["perplexity"]
    answer = client.completions.create(
        model=name, prompt=expected["ids"], echo=True, logprobs=1, max_tokens=1, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    prompt = logprobs.token_logprobs[: expected["n_tokens"]]
    assert prompt[0] is None
    assert -sum(prompt[1:]) / expected["n_scored"] == pytest.approx(expected["mean_nll"], abs=0.03)
    assert answer.choices[0].text.startswith(expected["text"])
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert top is None or (logprob is not None and logprob <= top[token] <= max(top.values()))


def test_answers_made_together_are_those_made_alone(client, name):
    prompts = [f"{number} plus {number} is" for number in range(1, 5)]
    options: Any = {"model": name, "temperature": 0, "max_tokens": 6}
    alone = [client.completions.create(prompt=prompt, **options).choices[0].text for prompt in prompts]

    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="-") as together:
            answers = await asyncio.gather(*(together.completions.create(prompt=p, **options) for p in prompts))
            return [answer.choices[0].text for answer in answers]

    assert asyncio.run(ask()) == alone


def test_a_prompt_longer_than_the_context_is_refused_with_both_counts(client, name):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=name, prompt=[5] * 8193)
    assert refused.value.code == "context_length_exceeded" and refused.value.param == "prompt"
    assert "8192" in refused.value.message and "8193" in refused.value.message
    with pytest.raises(openai.BadRequestError, match="token id"):
        client.completions.create(model=name, prompt=[49152])


class Animal(pydantic.BaseModel):
    """A type as the official client's users declare it."""

    name: str
    kind: Literal["cat", "dog", "bird"]
    legs: Annotated[int, pydantic.Field(ge=0, le=8)]
    owner: str | None


def test_parse_gives_an_object_of_the_caller_s_own_type(client, name):
    options: Any = {
        "model": name,
        "messages": [{"role": "user", "content": "Tom is a cat with four legs. Describe Tom in JSON."}],
        "temperature": 0,
        "max_tokens": 200,
    }
    choice = client.chat.completions.parse(response_format=Animal, **options).choices[0]
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, Animal) and choice.message.parsed.kind == "cat"
    with client.chat.completions.stream(response_format=Animal, **options) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == choice.message.parsed


def test_json_object_gives_an_object_and_logprobs_stay_the_model_s(client, name):
    options: Any = {"model": name, "messages": [{"role": "user", "content": "Hello!"}], "temperature": 0}
    free = client.chat.completions.create(max_tokens=1, logprobs=True, top_logprobs=5, **options)
    held = client.chat.completions.create(
        max_tokens=300, logprobs=True, top_logprobs=5, response_format={"type": "json_object"}, seed=1, **options
    )
    assert held.choices[0].message.content.startswith("{")
    if held.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(held.choices[0].message.content), dict)
    first, unheld = held.choices[0].logprobs.content[0], free.choices[0].logprobs.content[0]
    assert first.top_logprobs == unheld.top_logprobs and first.logprob < unheld.logprob
