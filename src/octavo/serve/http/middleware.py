"""What every request passes before any route: request id, Host and Origin, the key, the body's kind and size.

Unusual: plain ASGI, because the framework's own middleware class hides a client's disconnect; and one door for all
routes, shut by default: only `/health` and the page's files are open without a key.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Collection
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.serve.errors import ApiError, as_api_error
from octavo.serve.http.settings import ServerSettings

UPLOADS = re.compile(r"/v1/files|/v1/uploads/[^/]+/parts")
"""Where files go."""
SLOWEST = 64 << 10
"""Bytes a second of an upload that is not broken off."""
FORM_BYTES = 1 << 20
JSON, FORM = ("application/json", "JSON"), ("multipart/form-data", "a form with a file")


class Gate:
    """The middleware. open_paths: the paths that need no key."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, open_paths: Collection[str]) -> None:
        self._app = app
        self._settings = settings
        self._hosts = settings.hosts
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _origin_form(scope)
        request_id = scope["request_id"] = f"req_{secrets.token_hex(12)}"
        allowed = self._allowed_origin(scope)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update({"x-request-id": request_id, **allowed})
            await send(message)

        try:
            self._check(scope)
            if allowed and scope["method"] == "OPTIONS":
                await _preflight(Headers(scope=scope))(scope, receive, send_with_id)
                return
            await self._app(scope, self._limited(scope, receive), send_with_id)
        except Exception as error:
            answer = as_api_error(error, request_id=request_id)
            if started:
                raise ConnectionError(f"request {request_id} broke off") from None
            await answer.response(scope["path"])(scope, receive, send_with_id)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_origin(headers)
        is_open = scope["path"] in self._open_paths and scope["method"] in ("GET", "HEAD")
        asks_first = scope["method"] == "OPTIONS" and headers.get("origin") in self._settings.cors_origins
        if not is_open and not asks_first:  # browsers ask without the key
            self._check_key(headers)
        if scope["method"] in ("POST", "PUT", "PATCH"):
            self._check_body(headers, scope["path"])

    def _check_host(self, headers: Headers) -> None:
        """Refuse other names for this machine: a page on the web can make its own name point here (DNS rebinding)."""
        values = headers.getlist("host")
        name = _without_port(values[0]) if len(values) == 1 else ""
        if name not in self._hosts:
            raise ApiError(
                403,
                "host_not_allowed",
                f"This server does not answer to the host {name[:100]!r}; start it with --allowed-host to let it.",
            )

    def _allowed_origin(self, scope: Scope) -> dict[str, str]:
        """What a browser must read before it gives the answer to a page of an origin that is let in."""
        origin = Headers(scope=scope).get("origin")
        if origin not in self._settings.cors_origins:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "x-request-id",
            "vary": "Origin",
        }

    def _check_origin(self, headers: Headers) -> None:
        """Refuse pages of other sites, also those without an origin."""
        for origin in headers.getlist("origin"):
            if _host_of_origin(origin) != headers["host"].lower() and origin not in self._settings.cors_origins:
                raise ApiError(
                    403, "origin_not_allowed", f"Pages of the origin {origin[:100]!r} may not use this server."
                )

    def _check_key(self, headers: Headers) -> None:
        wanted = self._settings.api_key
        if wanted is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), wanted.encode()):
            return
        problem = "The API key is wrong" if given else "This server asks for an API key"
        raise ApiError(
            401,
            "invalid_api_key",
            f"{problem}; send it as 'Authorization: Bearer KEY'.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _check_body(self, headers: Headers, path: str) -> None:
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        wanted, what = (
            ("multipart/form-data", "a form with a file") if _is_upload(path) else ("application/json", "JSON")
        )
        if media_type != wanted and not (empty and not media_type):
            raise ApiError(
                415,
                "unsupported_media_type",
                f"The body must be {what}: send 'Content-Type: {wanted}', not {media_type[:100]!r}.",
            )
        length = headers.get("content-length", "")
        if length.isdigit() and int(length[:20]) > self._most(path):
            raise self._too_large(path)

    def _most(self, path: str) -> int:
        """Bytes of a body; a form has some around its file."""
        return self._settings.max_upload + FORM_BYTES if _is_upload(path) else self._settings.max_body

    def _too_large(self, path: str) -> ApiError:
        most = self._settings.max_upload if _is_upload(path) else self._settings.max_body
        return ApiError(413, "request_too_large", f"The body is over {most} bytes, the most allowed.")

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """The same messages, but the body must come whole in time and stay within its limit.

        An upload gets a second more for each SLOWEST bytes that came.
        """
        path, size = scope["path"], 0
        complete = scope["method"] in ("GET", "HEAD")
        deadline = asyncio.get_running_loop().time() + self._settings.body_seconds

        async def limited() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline + (size / SLOWEST if _is_upload(path) else 0)):
                    message = await receive()
            except TimeoutError:
                # The framework lets only its own exception pass while it reads a body.
                raise HTTPException(408, f"The body did not arrive in {self._settings.body_seconds:g} s.") from None
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if size > self._most(path):
                    raise HTTPException(413, self._too_large(path).message)
            return message

        return limited


def _origin_form(scope: Scope) -> Scope:
    """The request with a path for its target where it has a whole URL, as proxies are asked (RFC 9112, 3.2.2): the
    URL's host is then the one that counts, whatever the header says."""
    scheme, found, rest = scope.get("raw_path", b"").decode("latin-1").partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        return scope
    authority, _, path = rest.partition("/")
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "path": unquote(f"/{path}"),
        "raw_path": f"/{path}".encode("latin-1"),
        "headers": [(b"host", authority.encode("latin-1")), *headers],
    }


def _is_upload(path: str) -> bool:
    """Whether a body has a file in it."""
    return UPLOADS.fullmatch(path) is not None


def _preflight(headers: Headers) -> Response:
    """The answer to a browser that asks whether a page of another origin may send something. Cookies it may not."""
    asked = headers.get("access-control-request-headers", "authorization, content-type")
    private = {"access-control-allow-private-network": "true"} if _wants_private(headers) else {}
    allowed = {
        "access-control-allow-methods": "GET, POST, DELETE",
        "access-control-allow-headers": asked,
        "access-control-max-age": "600",
    }
    return Response(status_code=204, headers=allowed | private)


def _wants_private(headers: Headers) -> bool:
    """Whether a page of the web asks for this machine (Private Network Access)."""
    return headers.get("access-control-request-private-network") == "true"


def _without_port(host: str) -> str:
    """The Host header's name: 'localhost:8000' -> 'localhost', '[::1]:8000' -> '[::1]'."""
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else host.strip().lower()


def _host_of_origin(origin: str) -> str | None:
    """Host and port of an origin; None where it has none, as 'null' has."""
    try:
        parts = urlsplit(origin.strip().lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") else None
