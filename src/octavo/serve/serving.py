"""What a running server knows: its models, how far it is in its life, and what it is generating."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

from octavo.errors import OctavoError, nearest
from octavo.generate.lm import LanguageModel
from octavo.generate.local import LocalModel
from octavo.serve.admission import Admission
from octavo.serve.errors import ApiError
from octavo.serve.generation import Generation
from octavo.serve.http.settings import ServerSettings
from octavo.serve.metrics import Metrics

Phase = Literal["loading", "ready", "stopping"]


class Serving:
    """Shared by all routes; used on the event loop only."""

    def __init__(self, models: Iterable[LanguageModel], settings: ServerSettings) -> None:
        self.settings = settings
        self.admission = Admission(settings.max_running, settings.max_queue)
        self.models: dict[str, LanguageModel] = {}
        self.created = int(time.time())
        self.phase: Phase = "loading"
        self.generations: set[Generation] = set()
        self.metrics = Metrics(self._gauges)
        for model in models:
            self.add(model)

    def add(self, model: LanguageModel) -> None:
        """Serve one more model; with the first the server is ready. Raises OctavoError for a name taken."""
        if model.name in self.models:
            raise OctavoError(f"two models are named {model.name!r}; serve one of them")
        self.models[model.name] = model
        if self.phase == "loading":
            self.phase = "ready"

    def require_ready(self) -> None:
        """Raises ApiError 503 while the model loads and when the server is stopping."""
        if self.phase == "loading":
            raise ApiError(503, "loading", "The model is still loading; try again.", headers={"Retry-After": "1"})
        if self.phase == "stopping":
            raise stopping()

    def find(self, name: str | None) -> LanguageModel:
        """The model of that name; None: the first served. Raises ApiError 404, 503."""
        self.require_ready()
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            served = ", ".join(map(repr, self.models))
            hint = nearest(name[:200], self.models) or "."
            raise ApiError(
                404, "model_not_found", f"The model {name[:200]!r} is not served; served: {served}{hint}", param="model"
            )
        return self.models[name]

    def _gauges(self) -> dict[str, dict[str, float]]:
        running: dict[str, float] = dict.fromkeys(self.models, 0)
        waiting = dict(running)
        for generation in self.generations:
            running[generation.model_name] += generation.running
            waiting[generation.model_name] += generation.waiting
        usage = {name: model.engine.kv_usage for name, model in self.models.items() if isinstance(model, LocalModel)}
        return {"num_requests_running": running, "num_requests_waiting": waiting, "kv_cache_usage_perc": usage}

    def stop_generating(self) -> None:
        """End all answers with an error that says why."""
        for generation in list(self.generations):
            generation.abort(stopping())


def stopping() -> ApiError:
    """The answer of a server that was told to stop."""
    return ApiError(503, "shutting_down", "The server is shutting down.", headers={"Retry-After": "5"})
