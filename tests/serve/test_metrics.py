"""Metrics under vLLM's names: what its dashboard asks for is there, and the figures are what happened."""

from __future__ import annotations

import threading

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel

DASHBOARD = (
    "e2e_request_latency_seconds", "generation_tokens", "inter_token_latency_seconds", "kv_cache_usage_perc",
    "num_requests_running", "num_requests_waiting", "prompt_tokens", "request_decode_time_seconds",
    "request_generation_tokens", "request_max_num_generation_tokens", "request_prefill_time_seconds",
    "request_prompt_tokens", "request_queue_time_seconds", "request_success", "request_time_per_output_token_seconds",
    "time_to_first_token_seconds",
)  # fmt: skip


def read(http) -> dict[str, dict[tuple[str, ...], float]]:
    """Each sample's name -> its labels besides the model's and the engine's -> its value."""
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(v for k, v in sorted(sample.labels.items()) if k not in ("model_name", "engine"))
            assert sample.labels["engine"] == "0"
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def test_all_families_of_the_dashboard_are_there_after_one_answer(start_server, stories):
    with load(str(stories)) as model:
        running = start_server([model])
        http = running.http()
        for _ in range(2):
            running.openai().completions.create(model=model.name, prompt="Once upon a time " * 8, max_tokens=5)
        names = {family.name for family in text_string_to_metric_families(http.get("/metrics").text)}
        assert {f"vllm:{name}" for name in DASHBOARD} <= names
        samples = read(http)
        assert 0 <= samples["vllm:kv_cache_usage_perc"][()] <= 1
        assert samples["vllm:prefix_cache_hits_total"][()] > 0
        assert samples["vllm:prefix_cache_queries_total"] == samples["vllm:prompt_tokens_total"]
        running.stop()


def test_counts_are_what_happened(start_server):
    running = start_server([ScriptedModel(["one two three", "four five"])])
    client, http = running.openai(), running.http()
    client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "a b"}])
    list(client.completions.create(model="scripted", prompt="c", max_tokens=1, n=2, stream=True))
    samples = read(http)
    assert samples["vllm:generation_tokens_total"][()] == 5
    assert samples["vllm:request_success_total"] == {("stop",): 1, ("length",): 2}
    assert samples["vllm:time_to_first_token_seconds_count"][()] == 3
    assert samples["vllm:inter_token_latency_seconds_count"][()] == 2
    assert samples["vllm:request_generation_tokens_sum"][()] == 5
    assert samples["vllm:request_max_num_generation_tokens_count"][()] == 2
    assert samples["vllm:num_requests_running"][()] == 0
    running.stop()


def test_running_waiting_rejected_and_aborted_requests_are_seen(start_server):
    running = start_server([ScriptedModel(["word " * 1000], delay=0.02)], max_running=1, max_queue=1)
    client, http = running.openai(), running.http()
    streams = [client.completions.create(model="scripted", prompt="a", max_tokens=1000, stream=True)]
    thread = threading.Thread(target=lambda: streams.append(_open(client)))
    thread.start()
    running.until(lambda: running.server.serving.admission.waiting == 1)
    samples = read(http)
    assert samples["vllm:num_requests_running"][()] == 1
    assert samples["vllm:num_requests_waiting"][()] == 1
    with pytest.raises(openai.RateLimitError):
        _open(client)
    assert read(http)["vllm:admission_rejections_total"] == {("queue_full",): 1}
    streams[0].close()
    thread.join(5)
    streams[1].close()
    running.until(lambda: read(http).get("vllm:request_success_total") == {("abort",): 2})
    assert read(http)["vllm:num_requests_running"][()] == 0
    running.stop()


def _open(client: openai.OpenAI) -> openai.Stream:
    return client.completions.create(model="scripted", prompt="a", max_tokens=1000, stream=True)
