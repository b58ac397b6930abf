"""Vector stores, their files and their batches as the state keeps them and as the API shows them.

Fields that begin with an underscore are ours and never shown. What can be counted is counted, not kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final

from octavo.serve.documents.requests import StoreFileRequest, StoreRequest
from octavo.serve.errors import ApiError, invalid
from octavo.serve.state import State, new_id

Object = dict[str, Any]
STORE: Final = "vector store"
MEMBER: Final = "vector store file"
BATCH: Final = "file batch"
STATUSES: Final = ("in_progress", "completed", "cancelled", "failed")
DAY = 86_400


def new_store(body: StoreRequest, **ours: Any) -> Object:
    """The row of a vector store."""
    now = int(time.time())
    expiry = None if body.expires_after is None else body.expires_after.model_dump()
    described = {} if body.description is None else {"description": body.description}
    return {
        "id": new_id("vs"),
        "object": "vector_store",
        "created_at": now,
        "name": body.name or "",
        **described,
        "metadata": body.metadata,
        "expires_after": expiry,
        "last_active_at": now,
        **ours,
    }


def new_member(store_id: str, wanted: StoreFileRequest, filename: str, batch: str | None) -> Object:
    """The row of a file in a vector store. Its `_turn` tells this adding of the file from another."""
    return {
        "id": wanted.file_id,
        "object": "vector_store.file",
        "usage_bytes": 0,
        "created_at": int(time.time()),
        "vector_store_id": store_id,
        "status": "in_progress",
        "last_error": None,
        "chunking_strategy": wanted.chunking_strategy.shown(),
        "attributes": wanted.attributes,
        "filename": filename,
        "_batch": batch,
        "_turn": new_id("turn"),
    }


def new_batch(store_id: str) -> Object:
    """The row of a batch."""
    return {
        "id": new_id("vsfb"),
        "object": "vector_store.files_batch",
        "created_at": int(time.time()),
        "vector_store_id": store_id,
        "_cancelled": False,
    }


def document_of(member: Mapping[str, Any]) -> str:
    """What a file of a vector store is called in its index: its id, or its path in a folder."""
    return str(member.get("_document", member["id"]))


def file_in_folder(store_id: str, document: str) -> str:
    """The id of a file that is not uploaded but lies in a folder: the same at each start."""
    return f"file-{hashlib.sha256(f'{store_id} {document}'.encode()).hexdigest()[:24]}"


def shown(row: Mapping[str, Any]) -> Object:
    """A row without what is ours."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def shown_store(state: State, owner: str, row: Object) -> Object:
    """A vector store with its counts and its status."""
    found = state.counts(MEMBER, owner, row["id"], {})
    busy = found.get("in_progress", (0, 0))[0] > 0 or row.get("_reading", False)
    expires_at = expiry_of(row)
    plain = shown(row)
    if row["expires_after"] is None:
        del plain["expires_after"]
    return {
        **plain,
        "usage_bytes": sum(size for _, size in found.values()),
        "file_counts": _counts(found),
        "status": "expired" if is_expired(row) else "in_progress" if busy else "completed",
        **({} if expires_at is None else {"expires_at": expires_at}),
    }


def shown_batch(state: State, owner: str, row: Object) -> Object:
    """A batch with its counts and its status."""
    found = state.counts(MEMBER, owner, row["vector_store_id"], {"_batch": row["id"]})
    status = "cancelled" if row["_cancelled"] else "in_progress" if "in_progress" in found else "completed"
    return {**shown(row), "status": status, "file_counts": _counts(found)}


def expiry_of(row: Object) -> int | None:
    """When a vector store expires, in seconds since 1970."""
    after = row["expires_after"]
    return None if after is None else int(row["last_active_at"] + after["days"] * DAY)


def is_expired(row: Object) -> bool:
    """Whether nobody used a vector store for as long as it was to be kept."""
    return (expiry_of(row) or float("inf")) <= time.time()


def require_open(row: Object) -> Object:
    """Raises ApiError 400 for a vector store that has expired."""
    if is_expired(row):
        raise ApiError(400, "expired", f"The vector store {row['id']!r} has expired; make another with the same files.")
    return row


def require_own(row: Object) -> Object:
    """Raises ApiError 400 for a vector store that shows a folder: it holds what the folder holds."""
    if "_folder" in row:
        raise invalid(f"The vector store {row['name']!r} shows a folder; change the files there.", "vector_store_id")
    return row


def _counts(found: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    counts = {status: found.get(status, (0, 0))[0] for status in STATUSES}
    return {**counts, "total": sum(counts.values())}
