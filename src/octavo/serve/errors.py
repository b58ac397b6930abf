"""OpenAI's error shape, and the one place where our errors become HTTP answers.

Unusual: an unexpected exception's text never leaves the process, nor is it logged, since it may quote a prompt; the log
has its type, the places in the code, and the request id that the client got.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from octavo.errors import (
    ContextLengthError,
    FormatError,
    MissingDependencyError,
    ModelNotFoundError,
    OctavoError,
    RemoteError,
)

log = logging.getLogger("octavo.serve")

TYPES = {429: "rate_limit_error"}
HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
}
STATUSES: tuple[tuple[type[OctavoError], int], ...] = (
    (ModelNotFoundError, 404),
    (RemoteError, 502),
    (FormatError, 500),
    (MissingDependencyError, 500),
)


_FIELDS = {"message": "string", "type": "string", "param": ["string", "null"], "code": ["string", "null"]}
_ERROR = {"type": "object", "properties": {name: {"type": kind} for name, kind in _FIELDS.items()}}
_BODY = {"type": "object", "properties": {"error": {"anyOf": [_ERROR, {"type": "string"}]}}, "required": ["error"]}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    kind: {"description": text, "content": {"application/json": {"schema": _BODY}}}
    for kind, text in (("4XX", "The request is at fault."), ("5XX", "The server is at fault, or not ready."))
}
"""The errors of every route, for `/openapi.json`."""


class ApiError(Exception):
    """An answer that is an error: HTTP status and the four fields of OpenAI's `error` object."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = _encodable(message)
        self.param = None if param is None else _encodable(param)
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON object that clients read."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self, path: str = "") -> JSONResponse:
        """The whole answer to a request of that path: clients of Ollama's API read only a sentence."""
        body = {"error": self.message} if path.startswith("/api/") else self.body()
        return JSONResponse(body, self.status, self.headers)


def invalid(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    """A 400 that names the field at fault."""
    return ApiError(400, code, message, param=param)


def as_api_error(error: BaseException, *, request_id: str, prompt_param: str | None = None) -> ApiError:
    """What a client is told about an exception.

    prompt_param: the field that holds the prompt, named when a context is too short for it.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, OctavoError):
        status = next((status for kind, status in STATUSES if isinstance(error, kind)), 400)
        param = prompt_param if isinstance(error, ContextLengthError) else None
        return ApiError(status, error.code, str(error), param=param or error.param)
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("request %s failed with %s\n%s", request_id, type(error).__name__, places)
    return ApiError(500, "server_error", f"The server failed on this request; its log has details under {request_id}.")


def install(app: FastAPI) -> None:
    """Give the app's own errors, and the framework's, OpenAI's shape."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error, request_id=request.scope.get("request_id", "")).response(request.url.path)

    async def of_framework(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = HTTP_CODES.get(error.status_code, "invalid_request")
        message = _http_message(request, error)
        return ApiError(error.status_code, code, message, headers=error.headers).response(request.url.path)

    async def of_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return from_validation(error.errors(), error.body).response(request.url.path)

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(OctavoError, ours)
    app.add_exception_handler(HTTPException, of_framework)
    app.add_exception_handler(RequestValidationError, of_validation)


def _http_message(request: Request, error: HTTPException) -> str:
    path = request.url.path[:200]
    if error.status_code == 404:
        return f"There is nothing at {path}."
    if error.status_code == 405:
        return (
            f"{request.method} is not what {path} answers; it answers {(error.headers or {}).get('Allow', 'others')}."
        )
    return str(error.detail)


def from_validation(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """One of pydantic's complaints, as a 400 whose `param` is a path such as `messages.0.role`.

    Of several the deepest, and rather about a value than its type: where a field may be text or a list, the list's
    complaint says more than that it is no text.
    """
    first = max(errors, key=lambda error: (len(_path_of(error, body)), not error["type"].endswith("_type")))
    context = first.get("ctx") or {}
    if first["type"] == "json_invalid":
        return invalid(f"The body is not valid JSON: {context.get('error', first['msg'])}.", None, "invalid_json")
    path = _path_of(first, body)
    param = ".".join(map(str, path)) if path else None
    if first["type"] == "unknown_parameter":
        return invalid(f"Unknown parameter: '{param}'.{context['hint']}", param, "unknown_parameter")
    if first["type"] == "unsupported_parameter":
        return invalid(f"Unsupported parameter: '{param}' {context['reason']}.", param, "unsupported_parameter")
    if first["type"] == "missing":
        what = f"Missing required parameter: '{param}'." if param else "The request has no JSON body."
        return invalid(what, param, "missing_required_parameter")
    subject = f"Invalid value for '{param}'" if param else "Invalid body"
    if first["type"] == "too_long" and isinstance(first["input"], str):
        return invalid(f"{subject}: it has over {context['max_length']} characters, the most allowed.", param)
    return invalid(f"{subject}: {_lower_first(first['msg'])}.", param)


def _path_of(error: Mapping[str, Any], body: Any) -> list[Any]:
    context = error.get("ctx") or {}
    if error["loc"][:1] in (("query",), ("path",)):
        return [str(key)[:64] for key in error["loc"][1:]]
    return _path_in(error["loc"], body, error["type"] == "missing") + ([context["field"]] if "field" in context else [])


def _path_in(loc: Sequence[Any], body: Any, missing: bool) -> list[Any]:
    """The part of pydantic's location that is in the body: without 'body' itself and without names of types."""
    path: list[Any] = []
    here = body
    for key in loc[1:] if loc[:1] == ("body",) else loc:
        is_here = key in here if isinstance(here, dict) else isinstance(here, list) and isinstance(key, int)
        if is_here:
            here = here[key]
        elif missing and isinstance(here, dict) and key == loc[-1]:
            here = None
        else:
            continue
        path.append(key if isinstance(key, int) else str(key)[:64])
    return path


def _encodable(text: str) -> str:
    """Without the half surrogates that a JSON string may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")
