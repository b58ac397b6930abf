"""OpenTelemetry, where it is asked for: a span and the metrics of each request, by the GenAI conventions.

Conventions: opentelemetry.io, semantic conventions for generative AI. Neither a prompt nor an answer is ever recorded.
Unusual: it is fed from the events that a request's reader gets, as the metrics of `/metrics` are, so it works for any
`LanguageModel`; the exporter is configured by OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.errors import MissingDependencyError
from octavo.generate.lm import Delta, Event, Finished, LanguageModel, Request, Scores, Started

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

NAME: Final = "octavo"
SYSTEM: Final = {"gen_ai.provider.name": "octavo"}
DURATIONS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRSTS: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
BETWEEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
COUNTS: Final = tuple(4.0**power for power in range(14))


class Telemetry:
    """Spans and metrics of requests, to the given providers."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self._providers = (tracers, meters)
        self._tracer = tracers.get_tracer(NAME)
        meter = meters.get_meter(NAME)
        self._duration = meter.create_histogram(
            "gen_ai.server.request.duration", "s", "Of a request.", explicit_bucket_boundaries_advisory=DURATIONS
        )
        self._first = meter.create_histogram(
            "gen_ai.server.time_to_first_token", "s", "From arrival.", explicit_bucket_boundaries_advisory=FIRSTS
        )
        self._between = meter.create_histogram(
            "gen_ai.server.time_per_output_token", "s", "After the first.", explicit_bucket_boundaries_advisory=BETWEEN
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Of a request.", explicit_bucket_boundaries_advisory=COUNTS
        )

    @classmethod
    def from_environment(cls) -> Self:
        """To where OpenTelemetry's variables say, by OTLP over HTTP. Raises MissingDependencyError without the SDK."""
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise MissingDependencyError("--otel needs OpenTelemetry; run `pip install 'octavo[otel]'`") from None
        resource = Resource.create().merge(Resource({SERVICE_NAME: NAME}))
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        return cls(tracers, MeterProvider(resource=resource, metric_readers=[reader]))

    def begin(self, model: LanguageModel, requests: Sequence[Request]) -> RequestSpan:
        """A request arrives."""
        return RequestSpan(self, model.name, requests)

    def close(self) -> None:
        """Send what is left."""
        for provider in self._providers:
            shutdown = getattr(provider, "shutdown", None)
            if shutdown is not None:
                shutdown()

    def start_span(self, name: str, attributes: dict[str, Any]) -> Any:
        """A span of the server's, below the one that the client's headers name."""
        from opentelemetry.trace import SpanKind

        return self._tracer.start_span(name, kind=SpanKind.SERVER, attributes=attributes)

    def record(self, asked: dict[str, Any], times: Times, counts: dict[str, int]) -> None:
        """The metrics of a request that is over."""
        failed = {} if times.error is None else {"error.type": times.error}
        self._duration.record(times.ended - times.began, {**asked, **failed})
        if times.first is not None:
            self._first.record(times.first - times.began, asked)
            if counts["output"] > 1:
                self._between.record((times.last - times.first) / (counts["output"] - 1), asked)
        for kind, count in counts.items():
            self._tokens.record(count, {**asked, "gen_ai.token.type": kind})


class Times:
    """When what happened to a request, in seconds of `time.monotonic`; first None: no token came."""

    def __init__(self) -> None:
        self.began = self.last = self.ended = time.monotonic()
        self.first: float | None = None
        self.error: str | None = None


class RequestSpan:
    """One request: its span, open until `close`."""

    def __init__(self, telemetry: Telemetry, model: str, requests: Sequence[Request]) -> None:
        self._telemetry = telemetry
        operation = "text_completion" if _is_plain(requests) else "chat"
        self._asked = {**SYSTEM, "gen_ai.operation.name": operation, "gen_ai.request.model": model}
        self._span = telemetry.start_span(f"{operation} {model}", {**self._asked, **_parameters(requests)})
        self._times = Times()
        self._counts = {"input": 0, "output": 0}
        self._reasons: list[str] = []

    def event(self, index: int, event: Event | Scores) -> None:
        """Something happened to an answer."""
        if isinstance(event, Started) and index == 0:
            self._counts["input"] = event.prompt_tokens
        elif isinstance(event, Delta) and event.token_ids:
            self._times.last = time.monotonic()
            if self._times.first is None:
                self._times.first = self._times.last
            self._counts["output"] += len(event.token_ids)
        elif isinstance(event, Finished):
            self._reasons.append(event.reason)

    def failed(self, reason: str) -> None:
        """It was turned away, or broke off."""
        self._times.error = reason

    def close(self) -> None:
        """It is over, whatever became of it."""
        from opentelemetry.trace import Status, StatusCode

        self._times.ended = time.monotonic()
        if self._times.error is None and not self._reasons:
            self._times.error = "cancelled"
        self._span.set_attributes({f"gen_ai.usage.{kind}_tokens": count for kind, count in self._counts.items()})
        self._span.set_attribute("gen_ai.response.model", self._asked["gen_ai.request.model"])
        if self._reasons:
            self._span.set_attribute("gen_ai.response.finish_reasons", self._reasons)
        if self._times.error is not None:
            self._span.set_attribute("error.type", self._times.error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
        self._telemetry.record(self._asked, self._times, self._counts)


class Propagation:
    """Middleware: what a request does belongs to the trace that its `traceparent` header names."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry import context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = _headers(scope["headers"])
        token = context.attach(TraceContextTextMapPropagator().extract(carrier))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    wanted = (b"traceparent", b"tracestate")
    return {name.decode(): value.decode("latin-1") for name, value in pairs if name in wanted}


def _is_plain(requests: Sequence[Request]) -> bool:
    """Whether a request continues text rather than a conversation."""
    prompt = requests[0].prompt if requests else ""
    return isinstance(prompt, str) or (len(prompt) > 0 and isinstance(prompt[0], int))


def _parameters(requests: Sequence[Request]) -> dict[str, Any]:
    """How the answers are made, as the conventions name it."""
    if not requests:
        return {}
    first = requests[0]
    found = {
        "gen_ai.request.temperature": first.sampling.temperature,
        "gen_ai.request.top_p": first.sampling.top_p,
        "gen_ai.request.top_k": first.sampling.top_k,
        "gen_ai.request.max_tokens": first.max_tokens,
        "gen_ai.request.seed": first.sampling.seed,
        "gen_ai.request.choice.count": len(requests) if len(requests) > 1 else None,
    }
    return {name: value for name, value in found.items() if value is not None}
