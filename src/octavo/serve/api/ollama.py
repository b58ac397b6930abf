"""`/api/…`: the half of Ollama's API that reads, for the editors and tools that speak only that.

What makes, copies, pulls or deletes models is not here: it is the command line's, never a request's.
"""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from octavo.generate.lm import LanguageModel
from octavo.serve.answering import Answer, serving_of
from octavo.serve.api.chat import ChatRequest, ChatShape
from octavo.serve.api.completions import CompletionRequest, CompletionShape
from octavo.serve.api.embeddings import create_embeddings
from octavo.serve.errors import ApiError
from octavo.serve.generation import Job
from octavo.serve.ollama.describe import listed, running, shown
from octavo.serve.ollama.lines import Lines, now
from octavo.serve.ollama.requests import (
    Answering,
    OllamaChat,
    OllamaEmbed,
    OllamaEmbeddings,
    OllamaGenerate,
    OllamaShow,
)
from octavo.serve.pool import Entry
from octavo.serve.serving import Serving
from octavo.serve.tools import opens_thoughts

router = APIRouter()

UNSERVED = {
    "create": "models are made with 'octavo train'",
    "copy": "models are files; copy them",
    "delete": "models are deleted with 'octavo rm'",
    "pull": "models are fetched with 'octavo pull'",
    "push": "nothing is ever sent anywhere",
}


@router.get("/api/version")
async def get_version() -> dict[str, str]:
    """The server's version."""
    return {"version": version("octavo")}


@router.get("/api/tags")
async def list_models(request: Request) -> dict[str, Any]:
    """All served models."""
    serving = serving_of(request)
    serving.require_ready()
    return {"models": await asyncio.to_thread(lambda: [listed(entry) for entry in serving.models.entries])}


@router.get("/api/ps")
async def list_running(request: Request) -> dict[str, Any]:
    """Those in memory."""
    pool = serving_of(request).models
    loaded = [entry for entry in pool.entries if entry.model is not None]
    return {"models": await asyncio.to_thread(lambda: [running(entry, pool) for entry in loaded])}


@router.post("/api/show")
async def show_model(body: OllamaShow, request: Request) -> dict[str, Any]:
    """What one of them is."""
    serving = serving_of(request)
    serving.require_ready()
    return await asyncio.to_thread(shown, _entry(serving, body.model or body.name))


@router.post("/api/chat")
async def chat(body: OllamaChat, request: Request) -> Response:
    """Answer a conversation, in lines unless `stream` is false."""
    started = time.monotonic()
    serving = serving_of(request)
    if not body.messages:
        return await _load_only(serving, body, {"message": {"role": "assistant", "content": ""}})
    model, load_seconds = await _find(serving, body)
    return await _answer("chat", serving, model, body.completion(), body.stream, started, load_seconds)


@router.post("/api/generate")
async def generate(body: OllamaGenerate, request: Request) -> Response:
    """Answer one prompt: as a chat's only message, or continue it where it is raw or the model has no template."""
    started = time.monotonic()
    serving = serving_of(request)
    if not body.prompt:
        return await _load_only(serving, body, {"response": ""})
    model, load_seconds = await _find(serving, body)
    plain = body.raw or (model.tokenizer is not None and model.tokenizer.chat_template is None)
    asked = body.continued() if plain else body.templated()
    return await _answer("generate", serving, model, asked, body.stream, started, load_seconds)


@router.post("/api/embed")
async def embed(body: OllamaEmbed, request: Request) -> dict[str, Any]:
    """Vectors of texts; a text that is too long is cut, unless `truncate` is false."""
    started = time.monotonic()
    answer = await create_embeddings(body.for_openai(), request)
    return {
        "model": body.model,
        "embeddings": [entry["embedding"] for entry in answer["data"]],
        "total_duration": round((time.monotonic() - started) * 1e9),
        "load_duration": 0,
        "prompt_eval_count": answer["usage"]["prompt_tokens"],
    }


@router.post("/api/embeddings")
async def embed_one(body: OllamaEmbeddings, request: Request) -> dict[str, Any]:
    """A vector of one text, in the older form."""
    answer = await create_embeddings(body.for_openai(), request)
    return {"embedding": answer["data"][0]["embedding"]}


async def _answer(
    kind: Any,
    serving: Serving,
    model: LanguageModel,
    asked: ChatRequest | CompletionRequest,
    stream: bool,
    started: float,
    load_seconds: float,
) -> Response:
    if isinstance(asked, ChatRequest):
        requests = asked.requests(model)
        jobs = [Job(made) for made in requests]
        opened = await asyncio.to_thread(opens_thoughts, model.tokenizer, requests[0])
        shape: Any = ChatShape(asked, model, opened=opened)
    else:
        prompts = asked.prompts(model)
        jobs, shape = asked.jobs(model, prompts), CompletionShape(asked, model, prompts)
    lines = Lines(kind, model.name, shape, started=started, load_seconds=load_seconds)
    return Answer(serving, model, jobs, lines, stream)


async def _find(serving: Serving, body: Answering) -> tuple[LanguageModel, float]:
    """The model, and how long it took to load."""
    serving.require_ready()
    began = time.monotonic()
    entry = _entry(serving, body.model)
    model = await serving.find(entry.name)
    if body.keep_alive is not None:
        entry.keep_alive = body.keep_alive
    return model, time.monotonic() - began


async def _load_only(serving: Serving, body: Answering, empty: dict[str, Any]) -> Response:
    """A request without anything to answer loads its model, or unloads it when it is to be kept for no time."""
    entry = _entry(serving, body.model)
    if body.keep_alive == 0:
        serving.models.unload(entry)
        reason = "unload"
    else:
        await _find(serving, body)
        reason = "load"
    return JSONResponse({"model": entry.name, "created_at": now(), **empty, "done": True, "done_reason": reason})


def _entry(serving: Serving, name: str | None) -> Entry:
    """A served model; ':latest' after its name is how Ollama's clients name any."""
    assert name is not None
    serving.require_ready()
    names = {entry.name for entry in serving.models.entries}
    plain = name.removesuffix(":latest")
    return serving.models.entry(plain if plain in names else name)


def _route(name: str, reason: str) -> None:
    async def refuse() -> None:
        raise ApiError(501, "not_implemented", f"/api/{name} is not served: {reason}.")

    methods = ["DELETE", "POST"] if name == "delete" else ["POST"]
    router.add_api_route(f"/api/{name}", refuse, methods=methods, include_in_schema=False)


for _name, _reason in UNSERVED.items():
    _route(_name, _reason)
