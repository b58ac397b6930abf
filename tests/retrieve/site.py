"""A site that tests serve, and its pages; loaded by path, as test folders are no packages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, Mapping[str, str], bytes] | Callable[[BaseHTTPRequestHandler], None]
DUCKS = (
    "<html><head><title>Ducks</title></head><body><p>Mallards eat weed and snails. They nest near ponds.</p>"
    "<a href='/owls'>owls</a></body></html>"
)
OWLS = (
    "<html><head><title>Owls</title></head><body><p>Barn owls hunt voles at night. Their hearing is keen.</p>"
    "<a href='http://10.0.0.1/x'>far</a></body></html>"
)
HTML = {"Content-Type": "text/html; charset=utf-8"}


class Server:
    """A site that answers as it is told. asked: paths, with their headers."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, dict(self.headers)))
                answer = site.answers.get(self.path.split("?")[0], (404, {}, b""))
                if callable(answer):
                    answer(self)
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def page(self, path: str, text: str) -> None:
        self.answers[path] = (200, HTML, text.encode())
