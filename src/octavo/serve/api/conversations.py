"""`/v1/conversations`: lists of items that responses read and add to."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field, field_validator

from octavo.serve.answering import serving_of
from octavo.serve.fields import Metadata, Strict
from octavo.serve.responses.items import as_objects, check_item
from octavo.serve.serving import Serving
from octavo.serve.state import Order, new_id

router = APIRouter()

Object = dict[str, Any]
Items = Annotated[list[Any], Field(max_length=20)]


class ConversationRequest(Strict):
    """A new conversation."""

    items: Items = Field(default_factory=list)
    metadata: Metadata = Field(default_factory=dict)

    @field_validator("items", mode="after")
    @classmethod
    def _check_items(cls, value: list[Any]) -> list[Any]:
        return [check_item(item) for item in value]


class ItemsRequest(Strict):
    """Items to add."""

    items: Items

    @field_validator("items", mode="after")
    @classmethod
    def _check_items(cls, value: list[Any]) -> list[Any]:
        return [check_item(item) for item in value]


class MetadataRequest(Strict):
    """New metadata."""

    metadata: Metadata


@router.post("/v1/conversations")
async def create_conversation(request: Request, body: ConversationRequest | None = None) -> Object:
    """Begin a conversation."""
    serving = serving_of(request)
    body = body or ConversationRequest()
    conversation: Object = {
        "id": new_id("conv"),
        "object": "conversation",
        "created_at": int(time.time()),
        "metadata": body.metadata,
    }
    serving.state.put("conversation", serving.owner, conversation)
    serving.state.put_all("item", serving.owner, as_objects(body.items), parent=conversation["id"])
    return conversation


@router.get("/v1/conversations/{conversation_id}")
async def retrieve_conversation(conversation_id: str, request: Request) -> Object:
    """One conversation, without its items."""
    return _conversation(serving_of(request), conversation_id)


@router.post("/v1/conversations/{conversation_id}")
async def update_conversation(conversation_id: str, body: MetadataRequest, request: Request) -> Object:
    """Change its metadata."""
    serving = serving_of(request)
    conversation = {**_conversation(serving, conversation_id), "metadata": body.metadata}
    serving.state.put("conversation", serving.owner, conversation)
    return conversation


@router.delete("/v1/conversations/{conversation_id}")
async def delete_conversation(conversation_id: str, request: Request) -> Object:
    """Forget it and its items."""
    serving = serving_of(request)
    serving.state.delete("conversation", serving.owner, conversation_id)
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@router.get("/v1/conversations/{conversation_id}/items")
async def list_items(
    conversation_id: str,
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=0, le=100)] = 20,
    order: Order = "desc",
    include: Annotated[list[str] | None, Query()] = None,
) -> Object:
    """What was said. Accepted: include."""
    serving = serving_of(request)
    _conversation(serving, conversation_id)
    page = serving.state.page("item", serving.owner, parent=conversation_id, after=after, limit=limit, order=order)
    return page.body()


@router.post("/v1/conversations/{conversation_id}/items")
async def create_items(
    conversation_id: str,
    body: ItemsRequest,
    request: Request,
    include: Annotated[list[str] | None, Query()] = None,
) -> Object:
    """Add items. Accepted: include."""
    serving = serving_of(request)
    _conversation(serving, conversation_id)
    items = as_objects(body.items)
    serving.state.put_all("item", serving.owner, items, parent=conversation_id)
    ids = [item["id"] for item in items]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return {"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": False}


@router.get("/v1/conversations/{conversation_id}/items/{item_id}")
async def retrieve_item(
    conversation_id: str, item_id: str, request: Request, include: Annotated[list[str] | None, Query()] = None
) -> Object:
    """One item. Accepted: include."""
    serving = serving_of(request)
    return serving.state.get("item", serving.owner, item_id, parent=conversation_id)


@router.delete("/v1/conversations/{conversation_id}/items/{item_id}")
async def delete_item(conversation_id: str, item_id: str, request: Request) -> Object:
    """Forget one item; the conversation comes back."""
    serving = serving_of(request)
    serving.state.delete("item", serving.owner, item_id, parent=conversation_id)
    return _conversation(serving, conversation_id)


def _conversation(serving: Serving, conversation_id: str) -> Object:
    return serving.state.get("conversation", serving.owner, conversation_id)
