"""`/v1/models` and `/v1/models/{id}`: what is served. Ids may contain slashes."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from octavo.serve.answering import serving_of
from octavo.serve.pool import Entry

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """All served models."""
    serving = serving_of(request)
    serving.require_ready()
    found = await asyncio.to_thread(lambda: [_described(entry, serving.created) for entry in serving.models.entries])
    return {"object": "list", "data": found}


@router.get("/v1/models/{model_id:path}")
async def retrieve_model(model_id: str, request: Request) -> dict[str, Any]:
    """One of them."""
    serving = serving_of(request)
    serving.require_ready()
    return await asyncio.to_thread(_described, serving.models.entry(model_id), serving.created)


def _described(entry: Entry, created: int) -> dict[str, Any]:
    """loaded, context_length (null while it is not loaded) and parameters are ours, the rest is OpenAI's.

    parent: of an adapter, the model that it belongs to, as vLLM has it.
    """
    holder = entry if entry.base is None else entry.base
    summary = holder.summary
    return {
        "id": entry.name,
        "object": "model",
        "created": created,
        "owned_by": "octavo",
        "loaded": holder.model is not None,
        "context_length": None if holder.model is None else holder.model.context_length,
        "parameters": None if summary is None else summary.parameters,
        **({} if entry.base is None else {"parent": holder.name}),
    }
