"""`/v1/page/conversations`: the chat page's conversations, kept here where its reader asks for it.

Each is the page's own object, a tree of messages, under the id that the page gave it; two browsers with one key see the
same ones. Of two writings the later one stays, whichever arrives first.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from pydantic import Field

from octavo.serve.answering import serving_of
from octavo.serve.errors import ApiError
from octavo.serve.fields import Strict, Text
from octavo.serve.serving import Serving

router = APIRouter(include_in_schema=False)  # the page's own, which may change with it

Object = dict[str, Any]
KIND: Final = "page_conversation"
MOST: Final = 10_000
Id = Annotated[str, Path(pattern=r"^[\w-]{1,64}$")]
Time = Annotated[float, Field(ge=0, lt=1e15)]


class PageConversation(Strict):
    """A conversation as the page keeps it; the page checks its messages, field by field, before it shows them."""

    id: Annotated[Text, Field(pattern=r"^[\w-]{1,64}$")]
    title: Annotated[Text, Field(max_length=1024)]
    created: Time
    updated: Time
    tip: Annotated[Text, Field(max_length=64)] | None = None
    settings: dict[Text, Any]
    messages: Annotated[list[Any], Field(max_length=100_000)]


@router.get("/v1/page/conversations")
async def list_conversations(request: Request) -> Object:
    """Which there are, and when each was changed."""
    serving = _keeping(request)
    kept = serving.state.page(KIND, serving.owner, limit=MOST, order="asc").objects
    return {"object": "list", "data": [{"id": entry["id"], "updated": entry["updated"]} for entry in kept]}


@router.get("/v1/page/conversations/{conversation_id}")
async def get_conversation(conversation_id: Id, request: Request) -> Object:
    """One of them."""
    serving = _keeping(request)
    return serving.state.get(KIND, serving.owner, conversation_id)


@router.put("/v1/page/conversations/{conversation_id}")
async def put_conversation(conversation_id: Id, body: PageConversation, request: Request) -> Object:
    """Keep one, unless a later one is kept; what is kept comes back as its id and time."""
    serving = _keeping(request)
    if body.id != conversation_id:
        raise ApiError(400, "invalid_value", "The conversation's id is not the address's.", param="id")
    kept = _kept(serving, conversation_id)
    if kept is None or kept["updated"] <= body.updated:
        # An absent tip is the page's null.
        kept = {"tip": None, **body.model_dump()}
        serving.state.put(KIND, serving.owner, kept)
    return {"id": kept["id"], "updated": kept["updated"]}


@router.delete("/v1/page/conversations/{conversation_id}")
async def delete_conversation(conversation_id: Id, request: Request) -> Object:
    """Forget one; one that is not there is forgotten already."""
    serving = _keeping(request)
    if _kept(serving, conversation_id) is not None:
        serving.state.delete(KIND, serving.owner, conversation_id)
    return {"id": conversation_id, "deleted": True}


def _kept(serving: Serving, conversation_id: str) -> Object | None:
    try:
        return serving.state.get(KIND, serving.owner, conversation_id)
    except ApiError:
        return None


def _keeping(request: Request) -> Serving:
    serving = serving_of(request)
    if not serving.settings.store:
        raise ApiError(409, "not_stored", "This server keeps nothing; start it without --no-store.")
    return serving
