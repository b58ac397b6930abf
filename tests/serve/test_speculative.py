"""Guesses in advance over HTTP: the same answers, fewer steps, and figures that say so."""

from __future__ import annotations

import json
import re
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.errors import OctavoError
from octavo.generate.lm import Request, Sampling, complete
from octavo.generate.local import load

PROMPT = "Tom and Lily saw a big red ball. Lily said: Tom and Lily saw a big red ball. Tom said: Tom and Lily"


@pytest.mark.parametrize("speculative", ["ngram", "itself"])
@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_answers_are_the_same_and_guesses_are_counted(start_server, stories, speculative, temperature):
    body = {"prompt": PROMPT, "max_tokens": 60, "temperature": temperature, "seed": 5, "ignore_eos": True}
    texts = []
    for proposer in (None, str(stories) if speculative == "itself" else speculative):
        with load(str(stories), speculative=proposer) as model:
            running = start_server([model])
            texts.append(running.http().post("/v1/completions", json=body).json()["choices"][0]["text"])
            families = text_string_to_metric_families(running.http().get("/metrics").text)
            counted = {sample.name: sample.value for family in families for sample in family.samples}
            running.stop()
    drafted = counted["vllm:spec_decode_num_draft_tokens_total"]
    assert 0 < counted["vllm:spec_decode_num_accepted_tokens_total"] <= drafted
    if temperature == 0 or speculative == "ngram":  # a draft model draws, so the seed's numbers are used otherwise
        assert texts[0] == texts[1]


def test_tokens_of_one_step_are_sent_together(start_server, stories):
    body = json.dumps({"prompt": PROMPT, "max_tokens": 60, "temperature": 0, "ignore_eos": True, "stream": True})
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with load(str(stories), speculative=str(stories)) as model:
        running = start_server([model])
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = client.makefile("rb").read().decode()
        running.stop()
    assert answer.count("data: {") >= 50 and answer.endswith("data: [DONE]\n\n\r\n0\r\n\r\n")
    sent = len(re.findall(r"(?m)^[0-9a-f]+\r$", answer)) - 1
    assert sent <= 30, "eight guesses of nine are right, so nine tokens go together"


def test_a_draft_model_of_another_vocabulary_is_refused(stories, tiny):
    folder, _ = tiny("llama")
    with pytest.raises(OctavoError, match="another vocabulary"):
        load(str(stories), speculative=str(folder))
    with pytest.raises(OctavoError, match="draft_tokens is 0"):
        load(str(stories), speculative="ngram", draft_tokens=0)


def test_each_right_guess_saves_a_step(stories):
    with load(str(stories), speculative="ngram") as model:
        steps = 0
        step = model.engine.runner.step

        def counted(rows):
            nonlocal steps
            steps += 1
            return step(rows)

        model.engine.runner.step = counted
        finished = complete(model, Request(PROMPT, 60, Sampling(temperature=0), ignore_eos=True)).finished
    assert finished.completion_tokens == 60 == steps + finished.accepted_tokens
