"""`/v1/feedback`: what people think of answers, kept for training.

A rating is kept with the messages that were answered, so that it can be exported as it is trained on: one row a rating
(`unpaired`: prompt, completion, label) for KTO, or one row for each liked and disliked answer to the same messages
(`preference`: prompt, chosen, rejected) for DPO; both in the shape that trl's trainers read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from octavo.serve.answering import serving_of
from octavo.serve.errors import ApiError
from octavo.serve.fields import Strict, Text
from octavo.serve.messages import ChatMessage
from octavo.serve.serving import Serving
from octavo.serve.state import new_id

router = APIRouter()

Object = dict[str, Any]
Form = Literal["preference", "unpaired"]
KIND: Final = "feedback"
MOST = 1 << 31


class FeedbackRequest(Strict):
    """A rating of an answer. id: of an earlier rating, which this one replaces. comment: in words."""

    id: Annotated[Text, Field(pattern=r"^[\w-]{1,64}$")] | None = None
    model: Text | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    completion: Text
    rating: Literal["up", "down"]
    comment: Annotated[Text, Field(max_length=4096)] = ""


@router.post("/v1/feedback")
async def create_feedback(body: FeedbackRequest, request: Request) -> Object:
    """Keep a rating."""
    serving = _keeping(request)
    kept: Object = {
        "id": body.id or new_id("fb"),
        "object": KIND,
        "created_at": int(time.time()),
        "model": body.model,
        "messages": [message.for_template() for message in body.messages],
        "completion": body.completion,
        "rating": body.rating,
        "comment": body.comment,
    }
    serving.state.put(KIND, serving.owner, kept)
    return kept


@router.get("/v1/feedback")
async def list_feedback(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Object:
    """What was kept, the latest first."""
    serving = _keeping(request)
    return serving.state.page(KIND, serving.owner, after=after, limit=limit).body()


@router.get("/v1/feedback/export", response_class=Response)
async def export_feedback(request: Request, format: Form = "preference") -> Response:
    """All of it as training data, a JSON object a line, in the order in which it was given."""
    serving = _keeping(request)
    kept = serving.state.page(KIND, serving.owner, limit=MOST, order="asc").objects
    made = pairs(kept) if format == "preference" else labelled(kept)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    return Response(lines, media_type="application/x-ndjson")


@router.delete("/v1/feedback/{feedback_id}")
async def delete_feedback(feedback_id: str, request: Request) -> Object:
    """Forget a rating."""
    serving = _keeping(request)
    serving.state.delete(KIND, serving.owner, feedback_id)
    return {"id": feedback_id, "object": f"{KIND}.deleted", "deleted": True}


def labelled(kept: Iterable[Mapping[str, Any]]) -> Iterator[Object]:
    """A row for each rating."""
    for entry in kept:
        answer = [{"role": "assistant", "content": entry["completion"]}]
        yield {"prompt": entry["messages"], "completion": answer, "label": entry["rating"] == "up"}


def pairs(kept: Iterable[Mapping[str, Any]]) -> Iterator[Object]:
    """A row for each two answers to the same messages of which one was liked and the other not."""
    groups: dict[str, dict[str, list[str]]] = {}
    for entry in kept:
        group = groups.setdefault(json.dumps(entry["messages"], sort_keys=True), {"up": [], "down": []})
        if entry["completion"] not in group[entry["rating"]]:
            group[entry["rating"]].append(entry["completion"])
    for messages, group in groups.items():
        for chosen in group["up"]:
            for rejected in group["down"]:
                if chosen != rejected:
                    sides = {"chosen": chosen, "rejected": rejected}
                    row = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
                    yield {"prompt": json.loads(messages), **row}


def _keeping(request: Request) -> Serving:
    serving = serving_of(request)
    if not serving.settings.store:
        raise ApiError(409, "not_stored", "This server keeps nothing; start it without --no-store to rate answers.")
    return serving
