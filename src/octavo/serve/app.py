"""The HTTP application: which routes there are, and the one gate before them all.

Interactive documentation pages are off, because they load scripts from elsewhere; `/openapi.json` describes the API.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI, Request, Response

from octavo.generate.lm import LanguageModel
from octavo.serve import errors
from octavo.serve.answering import serving_of
from octavo.serve.api import (
    chat,
    completions,
    conversations,
    decisions,
    embeddings,
    feedback,
    models,
    ollama,
    page,
    rerank,
    responses,
    stored,
    tokens,
    unbuilt,
)
from octavo.serve.api.documents import files, store_files, uploads, vector_stores
from octavo.serve.generation import ClientLeft
from octavo.serve.http import page_files
from octavo.serve.http.middleware import Gate
from octavo.serve.http.settings import ServerSettings
from octavo.serve.metrics import CONTENT_TYPE
from octavo.serve.serving import Serving

APIS = (
    models, chat, completions, responses, conversations, stored, decisions, feedback, page, ollama, tokens,
    embeddings, rerank, files, uploads, vector_stores, store_files, unbuilt,
)  # fmt: skip
"""Each an API family; what is not built comes last."""


def create_app(served: Iterable[LanguageModel], settings: ServerSettings | None = None) -> FastAPI:
    """The application for these models; the first answers requests that name none.

    With no models it answers 503 until `app.state.serving.add` gives it one. It does not close the models.
    """
    settings = settings or ServerSettings()
    app = FastAPI(title="Octavo", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.serving = Serving(served, settings)
    responses.fail_interrupted(app.state.serving)
    pages = page_files.page_files()
    if settings.telemetry is not None:
        from octavo.serve.http.telemetry import Propagation

        app.add_middleware(Propagation)
    app.add_middleware(Gate, settings=settings, open_paths=("/health", *pages))
    errors.install(app)
    app.add_exception_handler(ClientLeft, nobody)
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"], response_class=Response)
    for api in APIS:
        app.include_router(api.router, responses=errors.DOCUMENTED)
    page_files.mount(app, pages)
    return app


async def nobody(request: Request, error: Exception) -> Response:
    """The answer that no client waits for any more."""
    return Response(status_code=499)


async def health(request: Request) -> dict[str, str]:
    """Whether the model answers: 200, or 503 while it loads and when the server is stopping."""
    serving_of(request).require_ready()
    return {"status": "ok"}


async def metrics(request: Request) -> Response:
    """What the server did, for Prometheus. It needs the key, where one is asked."""
    return Response(serving_of(request).metrics.text(), media_type=CONTENT_TYPE)
