"""Chat completions that were asked for with `store: true`: list, read, label and forget them.

A stored completion holds the messages it answered too, each with an id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from octavo.generate.lm import Request as ModelRequest
from octavo.serve.answering import serving_of
from octavo.serve.errors import invalid
from octavo.serve.fields import Metadata, Strict
from octavo.serve.serving import Serving
from octavo.serve.state import Order

router = APIRouter()

Object = dict[str, Any]
Limit = Annotated[int, Query(ge=0, le=100)]


class MetadataRequest(Strict):
    """New metadata."""

    metadata: Metadata


def keep(serving: Serving, completion: Object, metadata: Mapping[str, str], request: ModelRequest) -> None:
    """Store a completion and the messages it answered."""
    messages = [
        {"id": f"{completion['id']}-{place}", "name": None, "refusal": None, "content_parts": None, **_message(message)}
        for place, message in enumerate(request.prompt)
    ]
    serving.state.put_all("message", serving.owner, messages, parent=completion["id"])
    serving.state.put("chat completion", serving.owner, {**completion, "metadata": dict(metadata)})


@router.get("/v1/chat/completions")
async def list_completions(
    request: Request,
    after: str | None = None,
    limit: Limit = 20,
    order: Order = "asc",
    model: str | None = None,
) -> Object:
    """Stored completions; `metadata[KEY]=VALUE` keeps those with it."""
    serving = serving_of(request)
    page = serving.state.page(
        "chat completion",
        serving.owner,
        after=after,
        limit=limit,
        order=order,
        having={"model": model},
        metadata=_metadata_in(request),
    )
    return page.body()


@router.get("/v1/chat/completions/{completion_id}")
async def retrieve_completion(completion_id: str, request: Request) -> Object:
    """One stored completion."""
    serving = serving_of(request)
    return serving.state.get("chat completion", serving.owner, completion_id)


@router.post("/v1/chat/completions/{completion_id}")
async def update_completion(completion_id: str, body: MetadataRequest, request: Request) -> Object:
    """Change its metadata."""
    serving = serving_of(request)
    kept = serving.state.get("chat completion", serving.owner, completion_id)
    changed = {**kept, "metadata": body.metadata}
    serving.state.put("chat completion", serving.owner, changed)
    return changed


@router.delete("/v1/chat/completions/{completion_id}")
async def delete_completion(completion_id: str, request: Request) -> Object:
    """Forget it and its messages."""
    serving = serving_of(request)
    serving.state.delete("chat completion", serving.owner, completion_id)
    return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}


@router.get("/v1/chat/completions/{completion_id}/messages")
async def list_messages(
    completion_id: str, request: Request, after: str | None = None, limit: Limit = 20, order: Order = "asc"
) -> Object:
    """The messages that it answered."""
    serving = serving_of(request)
    serving.state.get("chat completion", serving.owner, completion_id)
    page = serving.state.page("message", serving.owner, parent=completion_id, after=after, limit=limit, order=order)
    return page.body()


def _message(message: object) -> Object:
    assert isinstance(message, Mapping), "a chat completion answers messages"
    return dict(message)


def _metadata_in(request: Request) -> dict[str, str]:
    found = {}
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            found[name[len("metadata[") : -1]] = value
        elif name not in ("after", "limit", "order", "model"):
            raise invalid(f"Unknown parameter: '{name[:64]}'.", name[:64], "unknown_parameter")
    return found
