"""`/metrics`: what the server did, in Prometheus' text format and under vLLM's names, so that its dashboards work.

Unusual: an answer is counted from the events that its reader gets, so any `LanguageModel` is measured, a remote one
too; gauges ask the server when they are read. No label holds anything that a client sent but a served model's name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from octavo.generate.lm import Delta, Event, Finished, Scores, Started

if TYPE_CHECKING:
    from octavo.serve.http.telemetry import RequestSpan

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABELS = ("model_name", "engine")
FIRST_TOKEN_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160,
)  # fmt: skip
BETWEEN_TOKENS_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5,
)  # fmt: skip
REQUEST_BUCKETS = (0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
TOKEN_BUCKETS = tuple(float(step * 10**power) for power in range(6) for step in (1, 2, 5))

COUNTERS = {
    "prompt_tokens": "Tokens of accepted prompts.",
    "generation_tokens": "Generated tokens.",
    "prefix_cache_queries": "Prompt tokens looked up in the prefix cache.",
    "prefix_cache_hits": "Prompt tokens that needed no computing.",
    "spec_decode_num_draft_tokens": "Tokens guessed in advance.",
    "spec_decode_num_accepted_tokens": "Of those, the right ones.",
}
HISTOGRAMS = {
    "time_to_first_token_seconds": ("From a request's arrival to its first token.", FIRST_TOKEN_BUCKETS),
    "inter_token_latency_seconds": ("Between two tokens of an answer.", BETWEEN_TOKENS_BUCKETS),
    "request_time_per_output_token_seconds": ("An answer's mean time a token after its first.", BETWEEN_TOKENS_BUCKETS),
    "e2e_request_latency_seconds": ("From a request's arrival to its end.", REQUEST_BUCKETS),
    "request_queue_time_seconds": ("Waiting for a turn.", REQUEST_BUCKETS),
    "request_inference_time_seconds": ("From its turn to its end.", REQUEST_BUCKETS),
    "request_prefill_time_seconds": ("From its turn to its first token.", REQUEST_BUCKETS),
    "request_decode_time_seconds": ("From its first token to its end.", REQUEST_BUCKETS),
    "request_prompt_tokens": ("Tokens of a prompt.", TOKEN_BUCKETS),
    "request_generation_tokens": ("Tokens of an answer.", TOKEN_BUCKETS),
    "request_max_num_generation_tokens": ("Tokens of the longest answer of a request.", TOKEN_BUCKETS),
}

Gauges = Callable[[], Mapping[str, Mapping[str, float]]]
"""Each gauge's name -> each model's name -> its value now."""


class Metrics:
    """What a server counts. gauges: asked each time the metrics are read."""

    def __init__(self, gauges: Gauges) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(gauges))
        self._counters = {name: self._counter(name, text) for name, text in COUNTERS.items()}
        self._finished = self._counter("request_success", "Answers, by how they ended.", "finished_reason")
        self._rejected = self._counter("admission_rejections", "Requests turned away, by reason.", "reason")
        self._histograms = {
            name: Histogram(f"vllm:{name}", text, LABELS, buckets=buckets, registry=self._registry)
            for name, (text, buckets) in HISTOGRAMS.items()
        }

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self._registry)

    def count(self, model: str, name: str, amount: float) -> None:
        """Add to a counter of COUNTERS."""
        self._counters[name].labels(model, "0").inc(amount)

    def observe(self, model: str, name: str, value: float) -> None:
        """Add a value to a histogram of HISTOGRAMS."""
        self._histograms[name].labels(model, "0").observe(value)

    def of_tokens(self, model: str) -> tuple[Counter, Histogram]:
        """A model's counter of generated tokens, and its histogram of the time between two."""
        between = self._histograms["inter_token_latency_seconds"]
        return self._counters["generation_tokens"].labels(model, "0"), between.labels(model, "0")

    def finished(self, model: str, reason: str) -> None:
        """An answer ended."""
        self._finished.labels(model, "0", reason).inc()

    def rejected(self, model: str, reason: str) -> None:
        """A request was turned away."""
        self._rejected.labels(model, "0", reason).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"vllm:{name}", text, (*LABELS, *labels), registry=self._registry)


class _Gauges(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, values in self._gauges().items():
            family = GaugeMetricFamily(f"vllm:{name}", name.replace("_", " "), labels=LABELS)
            for model, value in values.items():
                family.add_metric((model, "0"), value)
            yield family


class Observation:
    """One HTTP request's answers, as its reader sees them. Made when the request arrives. span: of OpenTelemetry."""

    def __init__(self, metrics: Metrics, model: str, answers: int, span: RequestSpan | None = None) -> None:
        self._span = span
        self._metrics = metrics
        self._model = model
        self._arrived = time.monotonic()
        self._answers = [_Answer() for _ in range(answers)]
        # Looked up once: there is one of each a token.
        self._generated, self._between = metrics.of_tokens(model)

    def event(self, index: int, event: Event | Scores) -> None:
        """Something happened to an answer."""
        if self._span is not None:
            self._span.event(index, event)
        now, answer = time.monotonic(), self._answers[index]
        if isinstance(event, Started):
            answer.started = now
            self._observe("request_queue_time_seconds", now - self._arrived)
            for name in ("prompt_tokens", "prefix_cache_queries"):
                self._metrics.count(self._model, name, event.prompt_tokens)
            self._metrics.count(self._model, "prefix_cache_hits", event.cached_tokens)
        elif isinstance(event, Delta) and event.token_ids:
            self._tokens(answer, len(event.token_ids), now)
        elif isinstance(event, Finished):
            self._end(answer, event, now)

    def rejected(self, reason: str) -> None:
        """The request was turned away."""
        self._metrics.rejected(self._model, reason)
        self.failed(reason)

    def failed(self, reason: str) -> None:
        """The request broke off."""
        if self._span is not None:
            self._span.failed(reason)

    def close(self) -> None:
        """The request is over; what did not finish was aborted."""
        if self._span is not None:
            self._span.close()
        counts = [answer.tokens for answer in self._answers if answer.finished]
        if counts:
            self._observe("request_max_num_generation_tokens", max(counts))
        for answer in self._answers:
            if answer.started is not None and not answer.finished:
                self._metrics.finished(self._model, "abort")

    def _tokens(self, answer: _Answer, count: int, now: float) -> None:
        self._generated.inc(count)
        answer.tokens += count
        if answer.last is None:
            answer.first = now
            self._observe("time_to_first_token_seconds", now - self._arrived)
        else:
            for _ in range(count):
                self._between.observe((now - answer.last) / count)
        answer.last = now

    def _end(self, answer: _Answer, event: Finished, now: float) -> None:
        answer.finished = True
        started = self._arrived if answer.started is None else answer.started
        first = now if answer.first is None else answer.first
        self._metrics.finished(self._model, event.reason)
        self._metrics.count(self._model, "spec_decode_num_draft_tokens", event.drafted_tokens)
        self._metrics.count(self._model, "spec_decode_num_accepted_tokens", event.accepted_tokens)
        self._observe("e2e_request_latency_seconds", now - self._arrived)
        self._observe("request_inference_time_seconds", now - started)
        self._observe("request_prefill_time_seconds", first - started)
        self._observe("request_decode_time_seconds", now - first)
        self._observe("request_prompt_tokens", event.prompt_tokens)
        self._observe("request_generation_tokens", event.completion_tokens)
        if answer.tokens > 1:
            self._observe("request_time_per_output_token_seconds", (now - first) / (answer.tokens - 1))

    def _observe(self, name: str, value: float) -> None:
        self._metrics.observe(self._model, name, value)


class _Answer:
    """When what happened to one answer; times are `time.monotonic()`."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.tokens = 0
        self.finished = False
