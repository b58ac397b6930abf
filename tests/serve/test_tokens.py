"""The tokenizer over HTTP says what the tokenizer says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel


@pytest.fixture(scope="module")
def model(stories):
    with load(str(stories)) as model:
        yield model


@pytest.fixture(scope="module")
def http(start_server, model):
    running = start_server([model])
    yield running.http()
    running.stop()


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=40).filter(lambda text: text.isprintable()))
def test_tokenize_and_detokenize_are_the_tokenizer(http, model, text):
    answer = http.post("/tokenize", json={"prompt": text}).json()
    assert answer["tokens"] == model.tokenizer.encode(text)
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), model.context_length)
    back = http.post("/detokenize", json={"tokens": answer["tokens"]}).json()["prompt"]
    assert back == model.tokenizer.decode(answer["tokens"], skip_special=False)


def test_without_special_tokens_the_start_token_is_left_out(http, model):
    plain = http.post("/v1/tokenize", json={"prompt": "Once", "add_special_tokens": False, "return_token_strs": True})
    with_start = http.post("/v1/tokenize", json={"prompt": "Once"}).json()
    assert with_start["tokens"] == [model.tokenizer.bos_id, *plain.json()["tokens"]]
    assert plain.json()["token_strs"] == [model.tokenizer.token_text(token) for token in plain.json()["tokens"]]
    assert with_start["token_strs"] is None


def test_tokenizer_info_names_the_special_tokens(http, model):
    info = http.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"]) == ("<s>", "</s>")
    assert info["vocab_size"] == model.tokenizer.vocab_size


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ("/tokenize", {"prompt": "a", "add_special_token": True}, "add_special_token"),
        ("/detokenize", {"tokens": [1, 512]}, "tokens.1"),
        ("/detokenize", {"tokens": [-1]}, "tokens.0"),
        ("/detokenize", {}, "tokens"),
    ],
)
def test_a_wrong_request_is_refused_with_its_field(http, path, body, param):
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_model_without_a_tokenizer_says_so(start_server):
    running = start_server([ScriptedModel(["a"])])
    answer = running.http().post("/tokenize", json={"prompt": "a"})
    assert answer.status_code == 400
    assert "tokenizer" in answer.json()["error"]["message"]
    running.stop()
