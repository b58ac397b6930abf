"""`/v1/files`: upload, list, read and delete files."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from pydantic import ValidationError

from octavo.serve.answering import serving_of
from octavo.serve.documents.files import KIND, clean_name
from octavo.serve.documents.forms import described, read_form
from octavo.serve.documents.requests import FileExpiry, Purpose
from octavo.serve.documents.rows import require_own, shown
from octavo.serve.errors import from_validation
from octavo.serve.fields import Strict
from octavo.serve.state import Order

router = APIRouter()

Object = dict[str, Any]
SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
FORM = described({"file": "binary", "purpose": "string", "expires_after": "object"})


class FileFields(Strict):
    """What is said of a file beside its content."""

    purpose: Purpose
    expires_after: FileExpiry | None = None


@router.post("/v1/files", openapi_extra=FORM)
async def create_file(request: Request) -> Object:
    """Keep a file."""
    serving = serving_of(request)
    async with read_form(request, "file", FileFields.field_names()) as (upload, fields):
        try:
            said = FileFields.model_validate(fields)
        except ValidationError as error:
            raise from_validation(error.errors(), fields) from None
        name = clean_name(upload.filename or "")
        files = serving.documents.files
        file_id, size = await asyncio.to_thread(files.write, [upload.file], name)
        seconds = None if said.expires_after is None else said.expires_after.seconds
        return shown(files.record(serving.owner, file_id, size, name, said.purpose, seconds))


@router.get("/v1/files")
async def list_files(
    request: Request,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=0, le=10_000)] = 10_000,
    order: Order = "desc",
) -> Object:
    """The files that are kept."""
    serving = serving_of(request)
    page = serving.state.page(KIND, serving.owner, after=after, limit=limit, order=order, having={"purpose": purpose})
    body = page.body()
    return {**body, "data": [shown(row) for row in body["data"]]}


@router.get("/v1/files/{file_id}")
async def retrieve_file(file_id: str, request: Request) -> Object:
    """What is known of a file."""
    serving = serving_of(request)
    return shown(serving.documents.files.get(serving.owner, file_id))


@router.get("/v1/files/{file_id}/content", response_class=FileResponse)
async def file_content(file_id: str, request: Request) -> FileResponse:
    """Its bytes, to be saved and not shown: nothing in a file may run as a page of this server."""
    files = serving_of(request).documents.files
    row = files.get(serving_of(request).owner, file_id)
    named = f"attachment; filename*=UTF-8''{quote(row['filename'], safe='')}"
    headers = {"Content-Disposition": named, **SAFE_HEADERS}
    return FileResponse(files.path(row), media_type="application/octet-stream", headers=headers)


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, request: Request) -> Object:
    """Forget a file, in the vector stores too."""
    serving = serving_of(request)
    row = serving.state.get(KIND, serving.owner, file_id)
    if "_folder" in row:
        require_own({**row, "name": row["filename"]})
    await serving.documents.delete_file(serving.owner, file_id)
    return {"id": file_id, "object": "file", "deleted": True}
