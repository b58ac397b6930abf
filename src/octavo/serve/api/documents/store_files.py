"""`/v1/vector_stores/{id}/files` and `/file_batches`: what a vector store holds, and how far its indexing is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from octavo.serve.answering import serving_of
from octavo.serve.documents.requests import AttributesUpdate, BatchRequest, StoreFileRequest
from octavo.serve.documents.rows import (
    BATCH,
    MEMBER,
    STATUSES,
    require_open,
    require_own,
    shown,
    shown_batch,
)
from octavo.serve.errors import invalid
from octavo.serve.serving import Serving
from octavo.serve.state import Order

router = APIRouter()

Object = dict[str, Any]
Limit = Annotated[int, Query(ge=0, le=100)]
Status = Literal["in_progress", "completed", "failed", "cancelled"]
assert set(STATUSES) == set(Status.__args__)  # type: ignore[attr-defined]
SOON = {"openai-poll-after-ms": "250"}
"""How long the official client waits before it looks again."""
FILES = "/v1/vector_stores/{store_id}/files"
BATCHES = "/v1/vector_stores/{store_id}/file_batches"


@router.post(FILES)
async def add_file(store_id: str, body: StoreFileRequest, request: Request) -> Response:
    """Index a file in the background."""
    serving = serving_of(request)
    _writable(serving, store_id)
    return _polled(_member(serving, serving.documents.add(serving.owner, store_id, [body])))


@router.get(FILES)
async def list_files(
    store_id: str,
    request: Request,
    after: str | None = None,
    before: str | None = None,
    limit: Limit = 20,
    order: Order = "desc",
    filter: Status | None = None,
) -> Object:
    """Its files."""
    return _listed(serving_of(request), store_id, {"status": filter}, after, before, limit, order)


@router.get(FILES + "/{file_id}")
async def retrieve_file(store_id: str, file_id: str, request: Request) -> Response:
    """One of its files, with the share that is indexed."""
    serving = serving_of(request)
    return _polled(_member(serving, serving.state.get(MEMBER, serving.owner, file_id, parent=store_id)))


@router.post(FILES + "/{file_id}")
async def update_file(store_id: str, file_id: str, body: AttributesUpdate, request: Request) -> Object:
    """Give a file other attributes."""
    serving = serving_of(request)
    row = serving.state.get(MEMBER, serving.owner, file_id, parent=store_id)
    row["attributes"] = body.attributes
    serving.state.put(MEMBER, serving.owner, row, parent=store_id)
    return _member(serving, row)


@router.delete(FILES + "/{file_id}")
async def delete_file(store_id: str, file_id: str, request: Request) -> Object:
    """Take a file out; it stays a file."""
    serving = serving_of(request)
    _writable(serving, store_id)
    await serving.documents.remove(serving.owner, store_id, file_id)
    return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}


@router.get(FILES + "/{file_id}/content")
async def file_content(store_id: str, file_id: str, request: Request) -> Object:
    """The text that was read from a file: the one that citations count characters in."""
    serving = serving_of(request)
    row = serving.state.get(MEMBER, serving.owner, file_id, parent=store_id)
    if row["status"] != "completed":
        raise invalid(f"The file {file_id!r} is {row['status'].replace('_', ' ')}, so it has no text.", "file_id")
    text = await serving.documents.text(row)
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": text}],
        "has_more": False,
        "next_page": None,
    }


@router.post(BATCHES)
async def create_batch(store_id: str, body: BatchRequest, request: Request) -> Response:
    """Index several files in the background."""
    serving = serving_of(request)
    _writable(serving, store_id)
    row = serving.documents.add(serving.owner, store_id, body.wanted, batch=True)
    return _polled(shown_batch(serving.state, serving.owner, row))


@router.get(BATCHES + "/{batch_id}")
async def retrieve_batch(store_id: str, batch_id: str, request: Request) -> Response:
    """How far a batch is."""
    serving = serving_of(request)
    return _polled(shown_batch(serving.state, serving.owner, _batch(serving, store_id, batch_id)))


@router.post(BATCHES + "/{batch_id}/cancel")
async def cancel_batch(store_id: str, batch_id: str, request: Request) -> Object:
    """Index no more of a batch; what is indexed stays."""
    serving = serving_of(request)
    row = _batch(serving, store_id, batch_id)
    waiting = [
        {**member, "status": "cancelled"}
        for member in serving.state.children(MEMBER, serving.owner, store_id)
        if member["_batch"] == batch_id and member["status"] == "in_progress"
    ]
    row["_cancelled"] = row["_cancelled"] or bool(waiting)
    serving.state.put_all(MEMBER, serving.owner, waiting, parent=store_id)
    serving.state.put(BATCH, serving.owner, row, parent=store_id)
    return shown_batch(serving.state, serving.owner, row)


@router.get(BATCHES + "/{batch_id}/files")
async def list_batch_files(
    store_id: str,
    batch_id: str,
    request: Request,
    after: str | None = None,
    before: str | None = None,
    limit: Limit = 20,
    order: Order = "desc",
    filter: Status | None = None,
) -> Object:
    """The files of a batch."""
    serving = serving_of(request)
    _batch(serving, store_id, batch_id)
    return _listed(serving, store_id, {"status": filter, "_batch": batch_id}, after, before, limit, order)


def _writable(serving: Serving, store_id: str) -> None:
    require_own(require_open(serving.documents.store(serving.owner, store_id)))


def _batch(serving: Serving, store_id: str, batch_id: str) -> Object:
    return serving.state.get(BATCH, serving.owner, batch_id, parent=store_id)


def _member(serving: Serving, row: Object) -> Object:
    """A file as it is shown; one that is being indexed says how much of it is."""
    done = serving.documents.indexer.progress.get((row["vector_store_id"], row["id"]))
    return {**shown(row), **({"progress": round(done, 3)} if done is not None else {})}


def _listed(
    serving: Serving,
    store_id: str,
    having: dict[str, str | None],
    after: str | None,
    before: str | None,
    limit: int,
    order: Order,
) -> Object:
    serving.documents.store(serving.owner, store_id)
    page = serving.state.page(
        MEMBER, serving.owner, parent=store_id, after=after, before=before, limit=limit, order=order, having=having
    )
    body = page.body()
    return {**body, "data": [_member(serving, row) for row in body["data"]]}


def _polled(body: Object) -> Response:
    return JSONResponse(body, headers=SOON)
