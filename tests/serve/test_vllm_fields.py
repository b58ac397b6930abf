"""The fields that vLLM adds to OpenAI's, over HTTP, on a real model."""

from __future__ import annotations

import json
import math

import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel

TEXT = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def http(start_server, stories):
    with load(str(stories)) as model:
        running = start_server([model])
        yield running.http()
        running.stop()


def complete(http, **fields):
    response = http.post("/v1/completions", json={**TEXT, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def text(http, **fields):
    return complete(http, **fields)["choices"][0]["text"]


def test_the_stop_text_is_part_of_the_answer_where_asked_and_counts_after_min_tokens(http):
    whole = text(http)
    stop = whole[5:8]
    before = whole[: whole.index(stop)]
    assert text(http, stop=stop) == before
    assert text(http, stop=stop, include_stop_str_in_output=True) == before + stop
    assert text(http, stop=stop, min_tokens=12) == whole


def test_prompt_logprobs_are_those_of_an_echo_with_rank_and_text(http):
    choice = complete(http, prompt_logprobs=2, max_tokens=1)["choices"][0]
    echoed = complete(http, echo=True, logprobs=2, max_tokens=1)["choices"][0]["logprobs"]
    first, *rest = choice["prompt_logprobs"]
    assert first is None and len(rest) == len(echoed["tokens"]) - 2
    for entry, token, logprob in zip(rest, echoed["tokens"][1:], echoed["token_logprobs"][1:], strict=False):
        own = next(iter(entry.values()))
        assert own["decoded_token"] == token and math.isclose(own["logprob"], logprob, abs_tol=1e-9)
        assert own["rank"] == 1 or any(other["rank"] == 1 for other in entry.values())
        assert 2 <= len(entry) <= 3
    assert http.post("/v1/completions", json={**TEXT, "prompt_logprobs": 1, "stream": True}).status_code == 400


def test_chat_gives_prompt_logprobs_beside_its_choices(http):
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "prompt_logprobs": 0}
    response = http.post("/v1/chat/completions", json=body)
    if response.status_code == 400:
        assert "template" in response.text  # this model has none
    else:
        assert response.json()["prompt_logprobs"][0] is None


def test_best_of_gives_the_answers_whose_tokens_are_the_likeliest(http):
    sampled = {"temperature": 1.5, "seed": 3, "logprobs": 0}
    one_by_one = [complete(http, **{**sampled, "seed": 3 + choice})["choices"][0] for choice in range(5)]
    means = [sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["tokens"]) for c in one_by_one]
    best = [choice["text"] for _, choice in sorted(zip(means, one_by_one, strict=True), key=lambda pair: -pair[0])]
    answer = complete(http, **sampled, n=2, best_of=5)
    assert [choice["text"] for choice in answer["choices"]] == best[:2]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert answer["usage"]["completion_tokens"] == 60
    assert complete(http, n=1, best_of=2)["choices"][0]["logprobs"] is None
    assert http.post("/v1/completions", json={**TEXT, "best_of": 2, "stream": True}).status_code == 400


def test_a_beam_search_is_at_least_as_likely_as_the_greedy_answer(http):
    def logprob(answer: str) -> float:
        scored = complete(http, prompt="Tom saw " + answer, echo=True, logprobs=0, max_tokens=0)
        return sum(scored["choices"][0]["logprobs"]["token_logprobs"][1:])

    greedy = text(http, prompt="Tom saw", ignore_eos=True)
    searched = text(http, prompt="Tom saw", use_beam_search=True, best_of=8, ignore_eos=True)
    assert searched != greedy and logprob(searched) >= logprob(greedy) - 1e-3


def test_a_beam_search_gives_its_n_best_answers_whole_and_as_a_stream(http):
    asked = {"prompt": "Tom saw", "use_beam_search": True, "best_of": 6, "ignore_eos": True, "length_penalty": 0}
    choices = complete(http, **asked, n=3)["choices"]
    texts = [choice["text"] for choice in choices]
    assert [choice["index"] for choice in choices] == [0, 1, 2] and len(set(texts)) == 3
    assert texts[0] == text(http, **asked)
    with_ids = complete(http, **asked, n=3, return_token_ids=True)["choices"]
    wholes = [choice["prompt_token_ids"] + choice["token_ids"] for choice in with_ids]
    scored = [complete(http, prompt=ids, echo=True, logprobs=0, max_tokens=0) for ids in wholes]
    totals = [sum(one["choices"][0]["logprobs"]["token_logprobs"][1:]) for one in scored]
    assert totals == sorted(totals, reverse=True)
    whole = complete(http, **asked, n=3)
    assert whole["usage"]["completion_tokens"] == 36
    assert whole["usage"]["prompt_tokens"] == complete(http, **asked)["usage"]["prompt_tokens"]
    lines = http.post("/v1/completions", json={**TEXT, **asked, "n": 3, "stream": True}).text.split("\n\n")
    chunks = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    streamed = ["".join(chunk["text"] for chunk in chunks if chunk["index"] == place) for place in range(3)]
    assert streamed == texts
    assert http.post("/v1/completions", json={**TEXT, **asked, "n": 7}).json()["error"]["param"] == "best_of"
    running = complete(http, prompt="Tom", use_beam_search=True, n=2)["choices"]  # as many beams as answers
    assert len(running) == 2


def test_the_ids_of_tokens_are_given_where_they_are_asked_for(http, stories):
    asked = {"return_token_ids": True, "n": 2, "temperature": 1, "seed": 4}
    with load(str(stories)) as model:
        prompt = model.encode(TEXT["prompt"])
        for choice in complete(http, **asked)["choices"]:
            assert choice["prompt_token_ids"] == prompt and len(choice["token_ids"]) == 12
            assert choice["text"].strip() == model.tokenizer.decode(choice["token_ids"]).strip()
    lines = http.post("/v1/completions", json={**TEXT, **asked, "stream": True}).text.split("\n\n")
    chunks = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    of_first = [chunk for chunk in chunks if chunk["index"] == 0]
    assert [chunk.get("prompt_token_ids") for chunk in of_first] == [prompt] + [None] * (len(of_first) - 1)
    told = [token for chunk in of_first for token in chunk["token_ids"]]
    assert told == complete(http, **asked)["choices"][0]["token_ids"]
    assert "token_ids" not in complete(http)["choices"][0]


def test_a_chat_gives_the_ids_too_those_of_the_prompt_once(start_server):
    running = start_server([ScriptedModel(["one two"])])
    asked = {"messages": [{"role": "user", "content": "x"}], "return_token_ids": True}
    whole = running.http().post("/v1/chat/completions", json=asked).json()
    assert whole["prompt_token_ids"] is None and whole["choices"][0]["token_ids"] == [0, 1]
    lines = running.http().post("/v1/chat/completions", json={**asked, "stream": True}).text.split("\n\n")
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert ["prompt_token_ids" in chunk for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert [token for chunk in chunks for token in chunk["choices"][0]["token_ids"]] == [0, 1]
    running.stop()


def test_salts_part_what_requests_share(http):
    prompt = "The little dog ran to the big tree and sat down in the sun for a long time. " * 2
    cached = [
        complete(http, prompt=prompt, max_tokens=1, **salt)["usage"]["prompt_tokens_details"]["cached_tokens"]
        for salt in ({"cache_salt": "a"}, {"cache_salt": "a"}, {"cache_salt": "b"}, {})
    ]
    assert cached[0] == cached[2] == cached[3] == 0 < cached[1]


@pytest.mark.parametrize("field", [{"typical_p": 0.2}, {"priority": -3}, {"skip_special_tokens": False}])
def test_the_others_are_taken(http, field):
    assert complete(http, **field)


def test_an_answer_goes_on_with_the_assistants_last_message(start_server):
    model = ScriptedModel([" Paris."])
    running = start_server([model])
    messages = [{"role": "user", "content": "France?"}, {"role": "assistant", "content": "The capital is"}]
    asked = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    answer = running.http().post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert model.requests[-1].template == {"continue_final_message": True}
    for wrong in ({"add_generation_prompt": True}, {"messages": messages[:1]}):
        refused = running.http().post("/v1/chat/completions", json={**asked, **wrong})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "continue_final_message"
    running.stop()
