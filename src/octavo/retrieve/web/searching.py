"""The `SearchProvider` seam: a question to addresses of pages. SearXNG, Brave, and one site, searched by its words.

Off unless a person names one, as `searxng:URL`, `brave` (its key in OCTAVO_SEARCH_KEY), or `site:URL`, which reads a
site from its front page and ranks its pages itself.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, Protocol
from urllib.parse import quote_plus, urldefrag, urljoin

from octavo.errors import OctavoError, UnknownNameError, nearest
from octavo.retrieve.web.addresses import origin_of
from octavo.retrieve.web.evidence import relevance
from octavo.retrieve.web.fetching import Fetcher

KINDS = ("searxng", "brave", "site")
BRAVE = "https://api.search.brave.com/res/v1/web/search"


@dataclass(frozen=True)
class Result:
    """A page that a search found."""

    url: str
    title: str


class SearchProvider(Protocol):
    """Finds pages. fetcher: that reads them, trusting what the person named."""

    fetcher: Fetcher

    def search(self, question: str, count: int) -> list[Result]:
        """At most `count` pages for a question as it was asked, best first. Raises OctavoError for no answer."""
        ...


def provider(name: str, key: str | None = None) -> SearchProvider:
    """The provider of a name such as `searxng:http://127.0.0.1:8888`. Raises UnknownNameError for an unknown one."""
    kind, _, address = name.partition(":")
    if kind == "brave":
        if not key:
            raise OctavoError("Brave's search needs a key; set OCTAVO_SEARCH_KEY")
        return Brave(address or BRAVE, key)
    if kind in ("searxng", "site"):
        if not address:
            raise OctavoError(f"{kind} needs an address, as in {kind}:http://127.0.0.1:8888")
        return SearXNG(address) if kind == "searxng" else Site(address)
    wrong = f"no search provider is called {kind!r}{nearest(kind, KINDS)}; there are {', '.join(KINDS)}"
    raise UnknownNameError(wrong, param="--search")


class SearXNG:
    """A SearXNG server's JSON: its administrator must have allowed that format."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._own = Fetcher(trusted=(origin_of(address),))
        self.fetcher = Fetcher()

    def search(self, question: str, count: int) -> list[Result]:
        """As the server ranks them."""
        found = self._own.api(f"{self._address}/search?format=json&q={quote_plus(question)}")
        return _results(found, ("results",), count)


class Brave:
    """Brave's web search. key: its subscription token."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._key = key
        self._own = Fetcher(trusted=(origin_of(address),))
        self.fetcher = Fetcher()

    def search(self, question: str, count: int) -> list[Result]:
        """As Brave ranks them; it gives 20 at most."""
        url = f"{self._address}?count={min(count, 20)}&q={quote_plus(question)}"
        found = self._own.api(url, {"X-Subscription-Token": self._key, "Accept": "application/json"})
        return _results(found, ("web", "results"), count)


class Site:
    """One site, read from its front page by its own links and ranked by its words: no search service is asked.

    most: pages that are read.
    """

    def __init__(self, address: str, most: int = 200) -> None:
        self._address = address
        self._origin = origin_of(address)
        self._most = most
        self._pages: dict[str, tuple[str, str]] | None = None
        self.fetcher = Fetcher(trusted=(self._origin,))

    def search(self, question: str, count: int) -> list[Result]:
        """By the cosine of TF-IDF."""
        pages = self._read() if self._pages is None else self._pages
        self._pages = pages
        urls = list(pages)
        scores = relevance(question, [" ".join(pages[url]) for url in urls])
        order = sorted(range(len(urls)), key=lambda at: (-scores[at], urls[at]))
        return [Result(urls[at], pages[urls[at]][0]) for at in order[:count] if scores[at] > 0]

    def _read(self) -> dict[str, tuple[str, str]]:
        """Title and words of each page."""
        pages: dict[str, tuple[str, str]] = {}
        waiting, seen = deque([self._address]), {self._address}
        problem: OctavoError | None = None
        while waiting and len(pages) < self._most:
            url = waiting.popleft()
            try:
                page = self.fetcher.page(url)
            except OctavoError as error:
                problem = error
                continue
            reader = _Links()
            reader.feed(page.text)
            pages[page.url] = reader.title.strip() or page.url, " ".join(reader.words)
            for link in reader.links:
                found = urldefrag(urljoin(page.url, link))[0]
                if found not in seen and re.match("https?:", found) and origin_of(found) == self._origin:
                    seen.add(found)
                    waiting.append(found)
        if not pages:
            raise OctavoError(f"nothing of {self._address} can be read: {problem}")
        return pages


class _Links(HTMLParser):
    """The links, the title and the words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.title = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "title":
            self.title += data
        elif self._inside not in ("script", "style"):
            self.words.append(data)


def _results(found: Any, path: tuple[str, ...], count: int) -> list[Result]:
    """The results in a service's answer. Raises OctavoError for an answer of another shape."""
    for key in path:
        found = found.get(key, [] if key == path[-1] else {}) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise OctavoError("the search service's answer has no list of results; is its address right?")
    rows = [row for row in found if isinstance(row, dict) and isinstance(row.get("url"), str)]
    return [Result(row["url"], str(row.get("title") or row["url"])) for row in rows[:count]]
