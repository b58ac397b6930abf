"""`/v1/models` and `/v1/models/{id}`: what is served. Ids may contain slashes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from octavo.generate.lm import LanguageModel
from octavo.serve.answering import serving_of

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """All served models."""
    serving = serving_of(request)
    serving.require_ready()
    return {"object": "list", "data": [_entry(model, serving.created) for model in serving.models.values()]}


@router.get("/v1/models/{model_id:path}")
async def retrieve_model(model_id: str, request: Request) -> dict[str, Any]:
    """One of them."""
    serving = serving_of(request)
    return _entry(serving.find(model_id), serving.created)


def _entry(model: LanguageModel, created: int) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "octavo",
        "context_length": model.context_length,
    }
