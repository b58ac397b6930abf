"""`/v1/uploads`: a large file in parts, put together when all are there. An upload is kept for an hour."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from octavo.serve.answering import serving_of
from octavo.serve.documents.files import Files, clean_name
from octavo.serve.documents.forms import described, read_form
from octavo.serve.documents.requests import FileExpiry, FileId, Purpose
from octavo.serve.documents.rows import shown
from octavo.serve.errors import invalid
from octavo.serve.fields import Strict, Text
from octavo.serve.serving import Serving
from octavo.serve.state import new_id

router = APIRouter()

Object = dict[str, Any]
KIND, PART = "upload", "upload part"
HOUR = 3600


class UploadRequest(Strict):
    """A file that will come. Accepted: mime_type, since the name says what a file is."""

    filename: Text
    purpose: Purpose
    bytes: Annotated[int, Field(ge=0)]
    mime_type: Text
    expires_after: FileExpiry | None = None


class CompleteRequest(Strict):
    """The parts in their order."""

    part_ids: Annotated[list[FileId], Field(max_length=10_000)]
    md5: Annotated[Text, Field(pattern="^[0-9a-fA-F]{32}$")] | None = None


@router.post("/v1/uploads")
async def create_upload(body: UploadRequest, request: Request) -> Object:
    """Begin an upload."""
    serving = serving_of(request)
    if body.bytes > serving.settings.max_upload:
        raise invalid(f"A file has at most {serving.settings.max_upload} bytes.", "bytes")
    now = int(time.time())
    row: Object = {
        "id": new_id("upload"),
        "object": "upload",
        "created_at": now,
        "filename": clean_name(body.filename),
        "bytes": body.bytes,
        "purpose": body.purpose,
        "status": "pending",
        "expires_at": now + HOUR,
        "_seconds": None if body.expires_after is None else body.expires_after.seconds,
    }
    serving.state.put(KIND, serving.owner, row)
    return shown(row)


@router.post("/v1/uploads/{upload_id}/parts", openapi_extra=described({"data": "binary"}))
async def add_part(upload_id: str, request: Request) -> Object:
    """Keep one part."""
    serving = serving_of(request)
    upload = _pending(serving, upload_id)
    async with read_form(request, "data", ()) as (part, _):
        stored = serving.state.children(PART, serving.owner, upload_id)
        if sum(one["_bytes"] for one in stored) + (part.size or 0) > upload["bytes"]:
            raise invalid(f"The parts are more than the {upload['bytes']} bytes that were announced.", "data")
        name, size = await asyncio.to_thread(serving.documents.files.write, [part.file], "")
    row = {
        "id": name.replace("file-", "part_"),
        "object": "upload.part",
        "created_at": int(time.time()),
        "upload_id": upload_id,
        "_file": name,
        "_bytes": size,
    }
    _pending(serving, upload_id)
    serving.state.put(PART, serving.owner, row, parent=upload_id)
    return shown(row)


@router.post("/v1/uploads/{upload_id}/complete")
async def complete_upload(upload_id: str, body: CompleteRequest, request: Request) -> Object:
    """Make the file of its parts. Raises 400 where they are not the file that was announced."""
    serving = serving_of(request)
    upload, files = _pending(serving, upload_id), serving.documents.files
    parts = [serving.state.get(PART, serving.owner, name, parent=upload_id) for name in body.part_ids]
    size = sum(part["_bytes"] for part in parts)
    if size != upload["bytes"]:
        raise invalid(f"The parts have {size} bytes; {upload['bytes']} were announced.", "part_ids")
    md5, file_id = await asyncio.to_thread(_joined, files, parts, upload["filename"])
    if body.md5 is not None and md5 != body.md5.lower():
        files.discard(file_id, upload["filename"])
        raise invalid(f"The file's MD5 is {md5}, not {body.md5}.", "md5")
    _pending(serving, upload_id)
    row = files.record(serving.owner, file_id, size, upload["filename"], upload["purpose"], upload["_seconds"])
    return _ended(serving, {**upload, "status": "completed", "file": shown(row)})


@router.post("/v1/uploads/{upload_id}/cancel")
async def cancel_upload(upload_id: str, request: Request) -> Object:
    """Give an upload up, with its parts."""
    serving = serving_of(request)
    return _ended(serving, {**_pending(serving, upload_id), "status": "cancelled"})


def _joined(files: Files, parts: list[Object], name: str) -> tuple[str, str]:
    """The MD5 of all parts and the id of the file that they are now."""
    with ExitStack() as opened:
        sources = [opened.enter_context(files.place(part["_file"], "").open("rb")) for part in parts]
        digest = hashlib.md5(usedforsecurity=False)
        for source in sources:
            while piece := source.read(1 << 20):
                digest.update(piece)
            source.seek(0)
        return digest.hexdigest(), files.write(sources, name)[0]


def _pending(serving: Serving, upload_id: str) -> Object:
    row = serving.state.get(KIND, serving.owner, upload_id)
    if row["status"] == "pending" and row["expires_at"] <= time.time():
        row = {**row, "status": "expired"}
    if row["status"] != "pending":
        raise invalid(f"The upload {upload_id!r} is {row['status']}.", "upload_id")
    return row


def _ended(serving: Serving, row: Object) -> Object:
    """Keep what became of an upload, and remove its parts."""
    for part in serving.state.children(PART, serving.owner, row["id"]):
        serving.documents.files.discard(part["_file"], "")
        serving.state.delete(PART, serving.owner, part["id"], parent=row["id"])
    serving.state.put(KIND, serving.owner, row)
    return shown(row)
