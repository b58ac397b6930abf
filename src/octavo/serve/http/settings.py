"""What a server is told when it starts: address, key, limits. Complete and checked when built.

Unusual: an address that other machines can reach is refused without a key, because thousands of open model servers
were found that way; the person who wants one says so with `allow_no_key`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.errors import OctavoError
from octavo.serve.documents.served import ServedFolder

if TYPE_CHECKING:
    from octavo.generate.tasks.yes_no import Question
    from octavo.serve.http.telemetry import Telemetry
    from octavo.serve.mcp.servers import ServerEntry

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class ServerSettings:
    """How to serve.

    api_key: what clients send as `Authorization: Bearer KEY`; None: no key is asked. allowed_hosts: values of the Host
    header besides this machine's own names; cors_origins: origins such as https://example.org whose pages may use the
    server from a browser. max_running: generations at once, each of a request's `n` counts; max_queue: how many more
    may wait; max_queued_tokens: with how many tokens, None: any. request_seconds: the longest that an answer may take.
    grace: seconds that running answers get when the server is told to stop. max_body: bytes of a request, max_upload:
    of one with a file; body_seconds: how long it may take to arrive. ping_seconds: between comments on a silent stream.
    max_loaded: models in memory at once; keep_alive: seconds after which an unused one is unloaded, None: never.
    aliases: (alias, served name); an alias may hold `*`. adapters: (name, the served model that has it). encoders:
    references of embedders and rerankers, loaded when first asked for; rerank_question: what those of them are asked
    that are plain decoders. state_path: the file that keeps responses, conversations and stored completions, None:
    memory; store: whether any are kept. folders: of documents, each shown as a vector store. mcp_servers: whose tools
    clients may let the model call. telemetry: where spans and metrics of requests go, None: nowhere. Raises OctavoError
    for a value outside its range and for an open address without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    allow_no_key: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_running: int = 32
    max_queue: int = 64
    max_queued_tokens: int | None = None
    grace: float = 20.0
    request_seconds: float = 600.0
    max_body: int = 32 << 20
    max_upload: int = 512 << 20
    body_seconds: float = 30.0
    ping_seconds: float = 15.0
    max_loaded: int = 3
    keep_alive: float | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    adapters: tuple[tuple[str, str], ...] = ()
    encoders: tuple[str, ...] = ()
    rerank_question: Question | None = None
    state_path: Path | None = None
    folders: tuple[ServedFolder, ...] = ()
    store: bool = True
    access_log: bool = False
    telemetry: Telemetry | None = None
    mcp_servers: tuple[ServerEntry, ...] = ()

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65535),
            ("max_running", 1, 1024),
            ("max_queue", 0, 1 << 20),
            ("max_queued_tokens", 1, 1 << 40),
            ("grace", 0, 3600),
            ("request_seconds", 1, 1 << 31),
            ("max_body", 1, 1 << 40),
            ("max_upload", 1, 1 << 40),
            ("max_loaded", 1, 1024),
            ("keep_alive", 0, 1 << 31),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise OctavoError(f"{name} is {value}; it must be from {low} to {high}", param=name)
        for origin in self.cors_origins:
            if not re.fullmatch(r"https?://[^/*\s]+", origin):
                example = "such as https://example.org, without a path or a *"
                raise OctavoError(f"{origin!r} is no origin; give scheme and host, {example}", param="cors_origin")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key):
            raise OctavoError("the API key must be printable ASCII characters, at least one", param="api_key")
        if self.api_key is None and not self.allow_no_key and not is_loopback(self.host):
            raise OctavoError(
                f"host {self.host!r} can be reached from other machines, and no key is set; "
                "set OCTAVO_API_KEY, or pass --allow-no-key if everyone who can reach it may use it",
                param="host",
            )

    @property
    def documents_path(self) -> Path | None:
        """The folder beside the state that keeps files and their indexes; None: nothing is kept."""
        return None if self.state_path is None else self.state_path.with_suffix(".documents")

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the Host header, without port and in lower case, that are answered."""
        own = () if self.host in ("", "0.0.0.0", "::") else (bracketed(self.host),)
        return frozenset(bracketed(host).lower() for host in (*LOCAL_HOSTS, *own, *self.allowed_hosts))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bracketed(host: str) -> str:
    """A host as URLs and the Host header write it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
