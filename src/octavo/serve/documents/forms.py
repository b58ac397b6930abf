"""Bodies with a file in them (multipart/form-data): one file and a few short fields, each known by name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from octavo.errors import nearest
from octavo.serve.errors import invalid

MOST_FIELDS, LONGEST_FIELD = 16, 1 << 16
_NESTED = re.compile(r"(\w+)\[(\w+)\]")


@asynccontextmanager
async def read_form(
    request: Request, file_field: str, known: Collection[str]
) -> AsyncIterator[tuple[UploadFile, dict[str, Any]]]:
    """The file, which lies on disk where it is large, and the other fields; `a[b]` is {"a": {"b": …}}.

    known: the fields that there may be. Raises ApiError 400 for others and for a body without the file.
    """
    try:
        form = await request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=LONGEST_FIELD)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise invalid(f"The form cannot be read: {error.detail}", None) from None
    try:
        yield _file(form.get(file_field), file_field), _fields(form.multi_items(), file_field, known)
    finally:
        await form.close()


def _file(value: Any, name: str) -> UploadFile:
    if not isinstance(value, UploadFile):
        raise invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    return value


def _fields(items: list[tuple[str, Any]], file_field: str, known: Collection[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in items:
        if name == file_field:
            continue
        nested = _NESTED.fullmatch(name)
        top = nested[1] if nested else name
        if top not in known:
            hint = nearest(top[:64], (file_field, *known))
            said = f"Unknown parameter: '{name[:64]}'.{f' D{hint[3:]}' if hint else ''}"
            raise invalid(said, name[:64], "unknown_parameter")
        if not isinstance(value, str):
            raise invalid(f"Invalid value for '{name[:64]}': it is no file.", name[:64])
        plain: Any = int(value) if re.fullmatch(r"\d{1,12}", value) else value
        if nested:
            inner = fields.setdefault(top, {})
            if isinstance(inner, dict):
                inner[nested[2]] = plain
        else:
            fields[top] = value
    return fields


def described(fields: Mapping[str, str]) -> dict[str, Any]:
    """A form for `/openapi.json`. fields: binary, string or object, all but objects required."""
    kinds = {
        name: {"type": "string", "format": "binary"} if kind == "binary" else {"type": kind}
        for name, kind in fields.items()
    }
    required = [name for name, kind in fields.items() if kind != "object"]
    schema = {"type": "object", "properties": kinds, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
