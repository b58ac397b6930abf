"""`/v1/vector_stores`: make, list, change, delete and search them."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from octavo.serve.answering import serving_of
from octavo.serve.documents.requests import SearchRequest, StoreFileRequest, StoreRequest, StoreUpdate
from octavo.serve.documents.rows import STORE, new_store, require_own, shown_store
from octavo.serve.state import Order

router = APIRouter()

Object = dict[str, Any]
Limit = Annotated[int, Query(ge=0, le=100)]


@router.post("/v1/vector_stores")
async def create_store(request: Request, body: StoreRequest | None = None) -> Object:
    """Make a vector store; its files are indexed in the background."""
    serving = serving_of(request)
    body = body or StoreRequest()
    row = new_store(body)
    wanted = [
        StoreFileRequest(file_id=name, chunking_strategy=body.chunking_strategy)
        for name in dict.fromkeys(body.file_ids)
    ]
    for one in wanted:
        serving.documents.files.get(serving.owner, one.file_id)
    serving.state.put(STORE, serving.owner, row)
    serving.documents.add(serving.owner, row["id"], wanted)
    return shown_store(serving.state, serving.owner, row)


@router.get("/v1/vector_stores")
async def list_stores(
    request: Request, after: str | None = None, before: str | None = None, limit: Limit = 20, order: Order = "desc"
) -> Object:
    """The vector stores."""
    serving = serving_of(request)
    page = serving.state.page(STORE, serving.owner, after=after, before=before, limit=limit, order=order)
    body = page.body()
    return {**body, "data": [shown_store(serving.state, serving.owner, row) for row in body["data"]]}


@router.get("/v1/vector_stores/{store_id}")
async def retrieve_store(store_id: str, request: Request) -> Object:
    """One vector store, with how many of its files are indexed."""
    serving = serving_of(request)
    return shown_store(serving.state, serving.owner, serving.documents.store(serving.owner, store_id))


@router.post("/v1/vector_stores/{store_id}")
async def update_store(store_id: str, request: Request, body: StoreUpdate | None = None) -> Object:
    """Change its name, metadata or expiry."""
    serving = serving_of(request)
    row = serving.documents.store(serving.owner, store_id)
    changes = (body or StoreUpdate()).model_dump(exclude_none=True)
    row |= {**changes, "last_active_at": int(time.time())}
    serving.state.put(STORE, serving.owner, row)
    return shown_store(serving.state, serving.owner, row)


@router.delete("/v1/vector_stores/{store_id}")
async def delete_store(store_id: str, request: Request) -> Object:
    """Forget it and its index; the files stay."""
    serving = serving_of(request)
    require_own(serving.documents.store(serving.owner, store_id))
    await serving.documents.delete_store(serving.owner, store_id)
    return {"id": store_id, "object": "vector_store.deleted", "deleted": True}


@router.post("/v1/vector_stores/{store_id}/search")
async def search_store(store_id: str, body: SearchRequest, request: Request) -> Object:
    """The passages that fit a query best; a score is a share of the best one's."""
    serving = serving_of(request)
    found = await serving.documents.search(
        serving.owner,
        [store_id],
        body.queries,
        body.max_num_results,
        where=body.where,
        ranking=body.ranking_options,
    )
    members = [(serving.documents.member(serving.owner, one), one.hit) for one in found]
    data = [
        {
            "file_id": row["id"],
            "filename": row["filename"],
            "score": hit.score,
            "attributes": row["attributes"],
            "content": [{"type": "text", "text": hit.passage.text}],
        }
        for row, hit in members
        if row is not None
    ]
    return {
        "object": "vector_store.search_results.page",
        "search_query": body.queries,
        "data": data,
        "has_more": False,
        "next_page": None,
    }
