"""`/v1/embeddings` and `/v1/rerank` as clients meet them: the official client, shapes, refusals."""

from __future__ import annotations

import base64
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import openai
import pytest

from octavo.generate.embed import Embedder
from octavo.generate.rerank import Reranker, relevance
from octavo.generate.scripted import ScriptedModel
from octavo.generate.tasks.yes_no import read_question

GENERATE = Path(__file__).parents[1] / "generate"


@pytest.fixture(scope="module")
def embedder(minilm):
    with Embedder.load(str(minilm)) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def running(start_server, minilm):
    running = start_server(
        [ScriptedModel(["hello"], name="scripted")],
        encoders=(str(minilm),),
        aliases=(("text-embedding-*", minilm.resolve().name),),
    )
    yield running
    running.stop()


def test_the_official_client_gets_the_embedder_s_vectors(running, embedder):
    client = running.openai()
    texts = ["a cat", "stocks fell", "naïve café"]
    answer = client.embeddings.create(model="text-embedding-3-small", input=texts)
    expected = embedder.embed(texts)
    assert answer.model == "text-embedding-3-small" and answer.object == "list"
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert np.abs(np.array([entry.embedding for entry in answer.data]) - expected).max() <= 1e-6
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == embedder.count_tokens(texts)


def test_one_text_ids_and_lists_of_ids_are_taken(running, embedder):
    client, ids = running.openai(), embedder.tokenizer.encode("a cat")
    expected = embedder.embed(["a cat"])[0]
    for given in ("a cat", ids, [ids], ["a cat"]):
        answer = client.embeddings.create(model=embedder.name, input=given, encoding_format="float")
        assert np.abs(np.array(answer.data[0].embedding) - expected).max() <= 1e-6


def test_dimensions_cut_and_normalise_again(running, embedder):
    answer = running.openai().embeddings.create(model=embedder.name, input="a cat", dimensions=64)
    expected = embedder.embed(["a cat"])[0, :64]
    assert np.allclose(answer.data[0].embedding, expected / np.linalg.norm(expected), atol=1e-6)


def test_base64_is_little_endian_float32(running, embedder):
    body = {"input": "a cat", "encoding_format": "base64"}
    data = running.http().post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(data), "<f4"), embedder.embed(["a cat"])[0])


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": ""}, "input", "it is empty"),
        ({"input": []}, "input", "it is empty"),
        ({"input": ["a", ""]}, "input.1", "it is empty"),
        ({"input": [[]]}, "input.0", "it is empty"),
        ({"input": ["a"] * 2049}, "input", "it has 2049 texts"),
        ({"input": "a", "dimensions": 385}, "dimensions", "has 384, not 385"),
        ({"input": "a", "dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "'float' or 'base64'"),
        ({"input": "a", "dimension": 3}, "dimension", "Did you mean 'dimensions'"),
        ({"input": [30522]}, None, "token id 30522 does not exist"),
        ({"input": "word " * 300}, "input", "input 0 has 302 tokens"),
        ({}, "input", "Missing required parameter"),
    ],
)
def test_wrong_requests_are_refused_in_words(running, body, param, words):
    answer = running.http().post("/v1/embeddings", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert words in error["message"], error
    if param is not None:
        assert error["param"] == param


def test_truncate_cuts_and_an_unknown_model_is_not_found(running, embedder):
    body = {"input": "word " * 300, "truncate": True, "input_type": "query"}
    data = running.http().post("/v1/embeddings", json=body).json()
    assert np.allclose(data["data"][0]["embedding"], embedder.embed(["word " * 300])[0], atol=1e-6)
    assert data["usage"]["prompt_tokens"] == 256
    with pytest.raises(openai.NotFoundError, match="is not served"):
        running.openai().embeddings.create(model="nothing-like-it", input="a")


def test_a_server_without_encoders_says_how_to_have_one(start_server):
    running = start_server([ScriptedModel(["hello"], name="scripted")])
    answer = running.http().post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == 404 and "--encoder" in answer.json()["error"]["message"]
    running.stop()


def test_rerank_orders_passages_by_what_they_mean(running):
    body = {
        "query": "What is the capital of France?",
        "documents": ["Stocks fell on Monday.", {"text": "Paris is France's capital."}, "Berlin is in Germany."],
    }
    answer = running.http().post("/v1/rerank", json=body).json()
    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    scores = [result["relevance_score"] for result in answer["results"]]
    assert 1 >= scores[0] > scores[1] >= scores[2] >= 0
    assert answer["results"][0]["document"] == {"text": "Paris is France's capital."}
    assert answer["usage"]["total_tokens"] > 20
    short = running.http().post("/v2/rerank", json={**body, "top_n": 1, "return_documents": False}).json()
    assert [set(result) for result in short["results"]] == [{"index", "relevance_score"}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": [{"title": "a"}]}, "documents.0.title"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_wrong_rerank_requests_are_refused_by_field(running, body, param):
    answer = running.http().post("/v1/rerank", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param


def test_embedding_and_reranking_wait_their_turn_and_are_told_when_the_queue_is_full(start_server, minilm):
    model = ScriptedModel(["word " * 4000], delay=0.01)
    running = start_server([model], encoders=(str(minilm),), max_running=1, max_queue=0)
    http, admission = running.http(), running.server.serving.admission
    texts = {"input": "a cat"}
    ranked = {"query": "a cat", "documents": ["a dog", "a kitten"]}
    named = {"model": minilm.resolve().name, **texts}
    with http.stream("POST", "/v1/completions", json={"prompt": "x", "stream": True, "max_tokens": 4000}) as answer:
        lines = answer.iter_lines()  # held, as a dropped iterator closes the connection
        next(lines)
        for path, body in (("/v1/embeddings", texts), ("/v1/rerank", ranked), ("/api/embed", named)):
            refused = http.post(path, json=body)
            assert (refused.status_code, "retry-after" in refused.headers) == (429, True), path
    running.until(lambda: admission.running == 0)
    assert http.post("/v1/embeddings", json=texts).status_code == 200
    assert http.post("/v1/rerank", json=ranked).status_code == 200
    running.until(lambda: admission.running == 0)
    running.stop()


def test_decoders_that_say_yes_or_no_and_bge_m3_rank(start_server, tiny, tmp_path):
    made = runpy.run_path(str(GENERATE / "test_yes_no.py"))
    decoder, m3 = tmp_path / "judge", tmp_path / "m3"
    shutil.copytree(tiny("qwen3")[0], decoder)
    made["byte_tokenizer"]().save(str(decoder / "tokenizer.json"))
    (decoder / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    question = read_question("bge", answers="Yes,no")
    question = replace(question, parts=question.parts[:3])
    runpy.run_path(str(GENERATE / "test_hybrid_embed.py"))["make_m3"](m3)
    running = start_server(
        [ScriptedModel(["hello"], name="scripted")], encoders=(str(decoder), str(m3)), rerank_question=question
    )
    http, texts = running.http(), ["w5 w6", "w9 w7", "w30"]
    with Reranker.load(str(decoder), question=question) as one, Reranker.load(str(m3)) as other:
        expected = {"judge": relevance(one.score("w5", texts)), "m3": other.score("w5", texts)}
    for name, scores in expected.items():
        answer = http.post("/v1/rerank", json={"model": name, "query": "w5", "documents": texts}).json()
        found = {row["index"]: row["relevance_score"] for row in answer["results"]}
        assert [row["index"] for row in answer["results"]] == np.argsort(-scores).tolist()
        assert np.abs(np.array([found[at] for at in range(3)]) - scores).max() <= 1e-6
    assert len(http.post("/v1/embeddings", json={"model": "m3", "input": "w5"}).json()["data"][0]["embedding"]) == 64
    refused = http.post("/v1/embeddings", json={"model": "judge", "input": "w5"})
    assert refused.status_code == 400 and "makes no embeddings" in refused.text
    running.stop()
