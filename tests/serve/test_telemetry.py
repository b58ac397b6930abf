"""OpenTelemetry: what the SDK's own in-memory exporters get of a request, and that no word of it is in there."""

from __future__ import annotations

import sys
from typing import Any

import httpx2
import pytest

from octavo.errors import MissingDependencyError
from octavo.generate.scripted import ScriptedModel

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from octavo.serve.http.telemetry import Telemetry

HI = [{"role": "user", "content": "the-secret"}]


class Traced:
    def __init__(self, start_server: Any, **settings: Any) -> None:
        self.spans = InMemorySpanExporter()
        self.metrics = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        telemetry = Telemetry(tracers, MeterProvider(metric_readers=[self.metrics]))
        model = ScriptedModel(["one two the-answer", "one two the-answer", "word " * 500], delay=0.002)
        self.running = start_server([model], telemetry=telemetry, **settings)
        self.http: httpx2.Client = self.running.http()

    def finished(self, count: int) -> list[Any]:
        self.running.until(lambda: len(self.spans.get_finished_spans()) >= count)
        return list(self.spans.get_finished_spans())

    def points(self) -> dict[str, list[Any]]:
        data = self.metrics.get_metrics_data()
        found = [metric for entry in data.resource_metrics for scope in entry.scope_metrics for metric in scope.metrics]
        return {metric.name: list(metric.data.data_points) for metric in found}


def test_a_request_is_a_span_with_its_counts_and_no_content(start_server: Any) -> None:
    traced = Traced(start_server)
    body = {"messages": HI, "temperature": 0.5, "seed": 3, "max_tokens": 50}
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced.http.post("/v1/chat/completions", json=body, headers={"traceparent": parent})
    traced.http.post("/v1/completions", json={"prompt": "the-secret", "stream": True})
    chat, plain = traced.finished(2)
    assert (chat.name, plain.name) == ("chat scripted", "text_completion scripted")
    assert f"{chat.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{chat.parent.span_id:016x}" == "b7ad6b7169203331" and plain.parent is None
    attributes = dict(chat.attributes)
    assert attributes["gen_ai.operation.name"] == "chat" and attributes["gen_ai.request.model"] == "scripted"
    assert attributes["gen_ai.usage.output_tokens"] == 3 and attributes["gen_ai.usage.input_tokens"] > 0
    assert attributes["gen_ai.request.temperature"] == 0.5 and attributes["gen_ai.request.max_tokens"] == 50
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    points = traced.points()
    everything = chat.to_json() + plain.to_json() + str(points)
    assert "the-secret" not in everything and "the-answer" not in everything
    assert sum(point.count for point in points["gen_ai.server.request.duration"]) == 2
    assert sum(point.count for point in points["gen_ai.server.time_to_first_token"]) == 2
    assert all(point.sum > 0 for point in points["gen_ai.server.time_per_output_token"])
    used = {
        (point.attributes["gen_ai.operation.name"], point.attributes["gen_ai.token.type"]): point.sum
        for point in points["gen_ai.client.token.usage"]
    }
    assert used["chat", "output"] == used["text_completion", "output"] == 3
    traced.running.stop()


def test_what_fails_or_is_turned_away_is_an_error(start_server: Any) -> None:
    traced = Traced(start_server, max_running=1, max_queue=0)
    answer = traced.http.post("/v1/chat/completions", json={"messages": HI, "n": 2})
    assert answer.status_code == 400
    long = {"messages": HI, "stream": True}
    for _ in range(2):
        traced.http.post("/v1/chat/completions", json=long)
    with traced.http.stream("POST", "/v1/chat/completions", json=long):
        pass  # the client leaves in the middle of a long answer
    turned_away, *_, left = traced.finished(4)
    assert turned_away.attributes["error.type"] == "invalid_value" and not turned_away.status.is_ok
    assert left.attributes["error.type"] == "cancelled" and "gen_ai.response.finish_reasons" not in left.attributes
    traced.running.stop()


def test_without_the_sdk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingDependencyError, match=r"octavo\[otel\]"):
        Telemetry.from_environment()
