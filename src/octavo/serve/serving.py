"""What a running server knows: its models, how far it is in its life, and what it is generating."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from octavo.generate.lm import LanguageModel
from octavo.generate.local import LocalModel
from octavo.serve.admission import Admission
from octavo.serve.documents.library import DocumentLibrary
from octavo.serve.encoders.pool import EncoderPool
from octavo.serve.errors import ApiError
from octavo.serve.generation import Generation, Job, Post
from octavo.serve.http.settings import ServerSettings
from octavo.serve.mcp.allowed import AllowedServers
from octavo.serve.metrics import Metrics, Observation
from octavo.serve.pool import ModelPool
from octavo.serve.state import State, owner_of

if TYPE_CHECKING:
    from octavo.serve.responses.run import ResponseRun

Phase = Literal["loading", "ready", "stopping"]


class Serving:
    """Shared by all routes; used on the event loop only."""

    def __init__(self, models: Iterable[LanguageModel], settings: ServerSettings) -> None:
        self.settings = settings
        self.admission = Admission(settings.max_running, settings.max_queue, settings.max_queued_tokens)
        self.models = ModelPool(
            max_loaded=settings.max_loaded, keep_alive=settings.keep_alive, aliases=settings.aliases
        )
        self.encoders = EncoderPool(settings.encoders, settings.aliases, settings.rerank_question)
        self.created = int(time.time())
        self.phase: Phase = "loading"
        self.generations: set[Generation] = set()
        self._post: Post | None = None  # of the event loop, which runs when the first request comes
        self.state = State(settings.state_path)
        self.owner = owner_of(settings.api_key)
        self.documents = DocumentLibrary(self.state, self.encoders, settings.documents_path)
        self.mcp = AllowedServers(settings.mcp_servers)
        self.responses: dict[str, ResponseRun] = {}
        """Those that are being made, by id."""
        self.metrics = Metrics(self._gauges)
        for model in models:
            self.add(model)

    def add(self, model: LanguageModel) -> None:
        """Serve one more model; with the first the server is ready. Raises OctavoError for a name taken."""
        self.models.add(model)
        if self.phase == "loading":
            self.phase = "ready"

    def require_ready(self) -> None:
        """Raises ApiError 503 while the model loads and when the server is stopping."""
        if self.phase == "loading":
            raise ApiError(503, "loading", "The model is still loading; try again.", headers={"Retry-After": "1"})
        if self.phase == "stopping":
            raise stopping()

    async def find(self, name: str | None) -> LanguageModel:
        """The model of that name, loaded if need be; None: the first served. Raises ApiError 404, 503."""
        self.require_ready()
        return await self.models.get(name)

    def begin(self, model: LanguageModel, jobs: Sequence[Job], *, limited: bool = True) -> Generation:
        """The generation of a request's answers, not started yet; its model stays loaded until `end`.

        limited: whether it ends when a request's time is over.
        """
        telemetry = self.settings.telemetry
        span = None if telemetry is None else telemetry.begin(model, [job.request for job in jobs])
        observation = Observation(self.metrics, model.name, sum(job.answers for job in jobs), span)
        self._post = self._post or Post(asyncio.get_running_loop())
        generation = Generation(model, jobs, self.admission, observation, self._post)
        if limited:
            generation.limit(self.settings.request_seconds)
        self.models.hold(model.name)
        self.generations.add(generation)
        return generation

    def end(self, generation: Generation) -> None:
        """Its request is over; once for each that began."""
        self.generations.discard(generation)
        self.models.release(generation.model_name)
        generation.close()

    def _gauges(self) -> dict[str, dict[str, float]]:
        running: dict[str, float] = {entry.name: 0 for entry in self.models.entries}
        waiting = dict(running)
        for generation in self.generations:
            running[generation.model_name] += generation.running
            waiting[generation.model_name] += generation.waiting
        loaded = self.models.loaded.items()
        usage = {name: model.engine.kv_usage for name, model in loaded if isinstance(model, LocalModel)}
        return {"num_requests_running": running, "num_requests_waiting": waiting, "kv_cache_usage_perc": usage}

    def stop_generating(self) -> None:
        """End all answers with an error that says why."""
        for generation in list(self.generations):
            generation.abort(stopping())


def stopping() -> ApiError:
    """The answer of a server that was told to stop."""
    return ApiError(503, "shutting_down", "The server is shutting down.", headers={"Retry-After": "5"})
