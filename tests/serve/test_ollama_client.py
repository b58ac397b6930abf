"""The official `ollama` client against the real server and the real SmolLM2."""

from __future__ import annotations

import pytest

from octavo.generate.local import load

ollama = pytest.importorskip("ollama")


@pytest.fixture(scope="module")
def client(start_server, smollm2):
    with load(str(smollm2)) as model:
        running = start_server([model])
        running.server.serving.models.entries[0].reference = str(smollm2)
        with ollama.Client(running.address) as client:
            yield client
        running.stop()


def test_it_lists_shows_and_sees_what_runs(client, smollm2):
    (listed,) = client.list().models
    assert listed.size == smollm2.stat().st_size
    assert (listed.details.family, listed.details.quantization_level) == ("llama", "Q4_1")
    shown = client.show(listed.model)
    assert shown.modelinfo["llama.block_count"] == 30
    assert "tools" in shown.capabilities
    assert client.ps().models[0].model == listed.model


def test_it_chats_streamed_and_whole(client):
    name = client.list().models[0].model
    options = {"temperature": 0, "num_predict": 40}
    said = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
    whole = client.chat(name, messages=said, options=options)
    assert "Paris" in whole.message.content and whole.done_reason == "stop"
    chunks = list(client.chat(name, messages=said, options=options, stream=True))
    assert "".join(chunk.message.content for chunk in chunks) == whole.message.content
    assert client.generate(name, said[0]["content"], options=options).response == whole.message.content


def test_a_schema_holds_the_answer(client):
    schema = {"type": "object", "properties": {"capital": {"type": "string"}}, "required": ["capital"]}
    name = client.list().models[0].model
    answer = client.chat(name, messages=[{"role": "user", "content": "Capital of France?"}], format=schema,
                         options={"temperature": 0, "num_predict": 60})  # fmt: skip
    assert answer.message.content.startswith("{")


def test_a_stranger_is_told_of_in_one_sentence(client):
    with pytest.raises(ollama.ResponseError, match="'nobody' is not served"):
        client.chat("nobody", messages=[{"role": "user", "content": "x"}])
