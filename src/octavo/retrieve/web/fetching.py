"""Pages of the web, fetched with care: checked addresses, limits of size and time, robots.txt, a dated cache.

Nothing is run and nothing beside the page is loaded. No cookie, no referrer and no proxy of the environment is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin
from urllib.robotparser import RobotFileParser

from octavo.errors import OctavoError
from octavo.retrieve.web.addresses import Resolve, Target, target
from octavo.writing import whole_file

AGENT = "Octavo"
PAGES = ("text/html", "application/xhtml+xml", "text/plain")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class WebLimits:
    """max_bytes of a page; seconds for all of it, redirects apart; redirects that are followed."""

    max_bytes: int = 2 << 20
    seconds: float = 10.0
    redirects: int = 5


@dataclass(frozen=True)
class Page:
    """What an address gave. url: where it was in the end. fetched: when, ISO 8601 in UTC. kind: its media type."""

    url: str
    kind: str
    text: str
    fetched: str


class Fetcher:
    """Fetches pages. trusted: origins that may be private, as the person named them. resolve: for tests."""

    def __init__(
        self, *, trusted: Collection[str] = (), limits: WebLimits | None = None, resolve: Resolve = socket.getaddrinfo
    ) -> None:
        self._trusted = tuple(trusted)
        self._limits = limits or WebLimits()
        self._resolve = resolve
        self._robots: dict[str, RobotFileParser | bool] = {}

    def page(self, url: str) -> Page:
        """A page that robots.txt lets us read. Raises OctavoError where there is none to be had, with the reason."""
        final, kind, body = self._follow(url, robots=True)
        media, charset = _media(kind)
        if media not in PAGES:
            raise OctavoError(f"{final} is {media or 'of no stated type'}; only pages of text are read")
        text = body.decode(_known(charset) or _declared(body) or "utf-8", errors="replace")
        return Page(final, media, text, datetime.now(UTC).isoformat(timespec="seconds"))

    def api(self, url: str, headers: Mapping[str, str] | None = None) -> object:
        """The JSON of a search service that the person named. Raises OctavoError for anything else."""
        final, _, body = self._follow(url, robots=False, headers=headers)
        try:
            return json.loads(body)
        except ValueError:
            raise OctavoError(f"{final.split('?')[0]} gave no JSON; is it the address of a search service?") from None

    def _follow(self, url: str, *, robots: bool, headers: Mapping[str, str] | None = None) -> tuple[str, str, bytes]:
        for _ in range(self._limits.redirects + 1):
            place = target(url, self._trusted, self._resolve)
            if robots and not self._allowed(place, url):
                raise OctavoError(f"{url} is not read: the site's robots.txt asks not to")
            status, found, body = self._get(place, headers)
            if status in _REDIRECTS and found.get("location"):
                url, headers = urljoin(url, found["location"]), None  # a key is for the host that it was given for
                continue
            if status != 200:
                raise OctavoError(f"{url.split('?')[0]} answered {status}")
            return url, found.get("content-type", ""), body
        raise OctavoError(f"{url.split('?')[0]} was redirected more than {self._limits.redirects} times")

    def _get(self, place: Target, headers: Mapping[str, str] | None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by their lower-case names, and body, from the checked address alone."""
        connection = _connection(place, self._limits.seconds)
        late = threading.Event()

        def end() -> None:
            late.set()
            connection.cut()

        timer = threading.Timer(self._limits.seconds, end)  # a slow drip would never be late by itself
        timer.daemon = True
        timer.start()
        try:
            sent = {"User-Agent": AGENT, "Accept-Encoding": "identity", "Connection": "close", **(headers or {})}
            connection.request("GET", place.path, headers=sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            if found.get("content-encoding", "identity") != "identity":
                raise OctavoError(f"{place.origin} answered compressed, unasked")
            body = answer.read(self._limits.max_bytes + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set():
                raise OctavoError(f"{place.origin} took more than {self._limits.seconds:g} seconds") from None
            raise OctavoError(f"{place.origin} cannot be read: {str(error) or type(error).__name__}") from None
        finally:
            timer.cancel()
            connection.close()
        if late.is_set():
            raise OctavoError(f"{place.origin} took more than {self._limits.seconds:g} seconds")
        if len(body) > self._limits.max_bytes:
            raise OctavoError(f"{place.origin}{place.path.split('?')[0]} is over {self._limits.max_bytes:,} bytes")
        return answer.status, found, body

    def _allowed(self, place: Target, url: str) -> bool:
        """Whether robots.txt lets us; where it cannot be had for a fault of the site, it does not (RFC 9309)."""
        if place.origin not in self._robots:
            rules = RobotFileParser()
            status, body = 500, b""
            with contextlib.suppress(OctavoError):
                status, _, body = self._get(
                    Target(place.scheme, place.host, place.port, place.number, "/robots.txt"), None
                )
            if status == 200:
                rules.parse(body.decode("utf-8", errors="replace").splitlines())
            self._robots[place.origin] = rules if status == 200 else status < 500
        known = self._robots[place.origin]
        return known if isinstance(known, bool) else known.can_fetch(AGENT, url)


class PageCache:
    """Pages as they were on a day, a file each. max_age: an older one is fetched again."""

    def __init__(self, folder: Path, fetcher: Fetcher, max_age: timedelta = timedelta(days=1)) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._max_age = max_age

    def page(self, url: str) -> Page:
        """A page, from here where it is fresh. Raises OctavoError as `Fetcher.page` does."""
        path = self._folder / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
        with contextlib.suppress(OSError, ValueError, TypeError):
            kept = Page(**json.loads(path.read_text(encoding="utf-8")))
            if datetime.now(UTC) - datetime.fromisoformat(kept.fetched) < self._max_age:
                return kept
        page = self._fetcher.page(url)
        self._folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_text(json.dumps(asdict(page), ensure_ascii=False), encoding="utf-8")
        return page


class _Pinned(http.client.HTTPConnection):
    """A connection to the number that was checked, whatever the name resolves to by now."""

    def __init__(self, place: Target, seconds: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(place.host, place.port, timeout=seconds)
        self._place = place
        self._tls = tls
        self._opened: socket.socket | None = None

    def connect(self) -> None:
        self.sock = socket.create_connection((self._place.number, self._place.port), self.timeout)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._place.host)
        self._opened = self.sock  # the answer takes it away from the connection

    def cut(self) -> None:
        """End what is going on, from another thread."""
        with contextlib.suppress(OSError):
            if self._opened is not None:
                self._opened.shutdown(socket.SHUT_RDWR)


def _connection(place: Target, seconds: float) -> _Pinned:
    return _Pinned(place, seconds, ssl.create_default_context() if place.scheme == "https" else None)


def _media(kind: str) -> tuple[str, str]:
    """A media type and its charset."""
    media, *rest = [part.strip() for part in kind.lower().split(";")]
    return media, next((part[8:].strip("\"'") for part in rest if part.startswith("charset=")), "")


def _known(charset: str) -> str:
    """A charset that Python has, else nothing."""
    try:
        return charset if charset and "x".encode(charset) else ""
    except (LookupError, UnicodeError):
        return ""


def _declared(body: bytes) -> str:
    """The charset in the page's own head."""
    found = re.search(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{1,40})", body[:4096], re.IGNORECASE)
    return _known(found[1].decode("ascii")) if found else ""
