"""The chat page's files, read once at the start; a name that is not in the folder does not exist."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import Response

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class PageFile:
    """A file as it is sent."""

    content: bytes
    content_type: str

    @property
    def headers(self) -> dict[str, str]:
        """All headers; the browser asks each time whether its copy is current."""
        digest = hashlib.sha256(self.content).hexdigest()[:32]
        return {**SECURITY_HEADERS, "Cache-Control": "no-cache", "ETag": f'"{digest}"'}


def page_files() -> dict[str, PageFile]:
    """The page's files by their path on the server; `/` is index.html."""
    found = {}
    for entry in files("octavo.serve").joinpath("page").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_file() and suffix in CONTENT_TYPES:
            found[f"/{entry.name}"] = PageFile(entry.read_bytes(), CONTENT_TYPES[suffix])
    if "/index.html" in found:
        found["/"] = found["/index.html"]
    return found


def mount(app: FastAPI, pages: Mapping[str, PageFile]) -> None:
    """Give the app a route for each file."""

    async def send_page(request: Request) -> Response:
        page = pages[request.url.path]
        headers = page.headers
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(page.content, headers=headers, media_type=page.content_type)

    for path in pages:
        app.add_route(path, send_page, methods=["GET", "HEAD"], include_in_schema=False)
