"""What is fetched of the web and what is refused, against a real local HTTP server."""

from __future__ import annotations

import runpy
import socket
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.retrieve.web import addresses
from octavo.retrieve.web.addresses import is_public, target
from octavo.retrieve.web.fetching import Fetcher, PageCache, WebLimits

SITE: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("site.py")))
DUCKS, OWLS, HTML = SITE["DUCKS"], SITE["OWLS"], SITE["HTML"]


@pytest.fixture
def fetcher(server: Any) -> Fetcher:
    """One that trusts the local site, and nothing else that is private."""
    return Fetcher(trusted=[server.url], limits=WebLimits(max_bytes=100_000, seconds=2, redirects=3))


def resolving(*numbers: str) -> addresses.Resolve:
    """A name service that gives these, one call after the other, the last for ever."""
    waiting = list(numbers)

    def resolve(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        number = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in number.split()]

    return resolve


@pytest.mark.parametrize(
    "number",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "198.18.0.1",
        "192.0.2.1",
        "240.0.0.1",
    ],
)
def test_no_private_number_is_public(number: str) -> None:
    assert not is_public(number)


def test_public_numbers_are() -> None:
    assert all(is_public(number) for number in ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"))


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("file:///etc/passwd", "not an http"),
        ("ftp://example.com/x", "not an http"),
        ("gopher://example.com", "not an http"),
        ("http://", "not an http"),
        ("http://exa mple.com/", "not an http"),
        ("http://example.com\r\nX: y/", "not an http"),
        ("http://me:secret@example.com/", "user name"),
        ("http://example.com:22/", "port 22"),
        ("http://example.com:99999/", "not an http"),
        ("http://localhost/", "private address"),
        ("http://127.0.0.1/", "private address"),
        ("http://2130706433/", "private address"),
        ("http://0x7f.1/", "private address"),
        ("http://[::1]/", "private address"),
        ("http://[::ffff:127.0.0.1]/", "private address"),
    ],
)
def test_only_public_web_addresses_are_fetched(url: str, because: str) -> None:
    with pytest.raises(OctavoError, match=because) as caught:
        Fetcher().page(url)
    assert "secret" not in str(caught.value)


def test_one_private_number_among_several_is_enough_to_refuse() -> None:
    with pytest.raises(OctavoError, match="private address"):
        target("http://example.com/", resolve=resolving("8.8.8.8 10.0.0.1"))


def test_the_connection_is_made_to_the_number_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    resolve = resolving("8.8.8.8", "127.0.0.1")  # the name is rebound after the first look
    place = target("http://rebound.test/", resolve=resolve)
    assert place.number == "8.8.8.8"
    with pytest.raises(OctavoError, match="private address"):
        target("http://rebound.test/", resolve=resolve)
    with pytest.raises(OctavoError):
        Fetcher(resolve=resolving("8.8.8.8", "127.0.0.1")).page("http://rebound.test/")
    assert set(connected) == {("8.8.8.8", 80)}


def test_a_redirect_into_the_private_is_refused(server: Any, fetcher: Fetcher) -> None:
    other = SITE["Server"]()
    other.page("/", "secret")
    for there in (f"{other.url}/", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "//10.0.0.1/"):
        server.answers["/go"] = (302, {"Location": there}, b"")
        with pytest.raises(OctavoError, match=r"private address|not an http|port"):
            fetcher.page(f"{server.url}/go")
    assert other.asked == []
    other.http.shutdown()
    other.http.server_close()


def test_redirects_within_a_site_are_followed_and_end(server: Any, fetcher: Fetcher) -> None:
    server.page("/end", DUCKS)
    server.answers["/a"] = (301, {"Location": "/b"}, b"")
    server.answers["/b"] = (307, {"Location": "end"}, b"")
    assert fetcher.page(f"{server.url}/a").url == f"{server.url}/end"
    server.answers["/loop"] = (302, {"Location": "/loop"}, b"")
    with pytest.raises(OctavoError, match="redirected more than 3"):
        fetcher.page(f"{server.url}/loop")


def test_large_slow_compressed_and_other_answers_are_refused(server: Any, fetcher: Fetcher) -> None:
    server.answers["/large"] = (200, HTML, b"x" * 100_001)
    server.answers["/zip"] = (200, {**HTML, "Content-Encoding": "gzip"}, b"\x1f\x8b")
    server.answers["/pdf"] = (200, {"Content-Type": "application/pdf"}, b"%PDF")
    server.answers["/gone"] = (410, HTML, b"")

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    server.answers["/slow"] = drip
    start = time.monotonic()
    for path, because in (
        ("/large", "over 100,000 bytes"),
        ("/zip", "compressed"),
        ("/pdf", "application/pdf"),
        ("/gone", "410"),
        ("/slow", "more than 2 seconds"),
    ):
        with pytest.raises(OctavoError, match=because):
            fetcher.page(f"{server.url}{path}")
    assert time.monotonic() - start < 60


def test_robots_are_asked_once_and_obeyed(server: Any, fetcher: Fetcher) -> None:
    server.answers["/robots.txt"] = (200, {}, b"User-agent: *\nDisallow: /private\n")
    server.page("/private/x", DUCKS)
    server.page("/open", DUCKS)
    with pytest.raises(OctavoError, match=r"robots\.txt"):
        fetcher.page(f"{server.url}/private/x")
    assert "Mallards" in fetcher.page(f"{server.url}/open").text
    assert [path for path, _ in server.asked] == ["/robots.txt", "/open"]
    server.answers["/robots.txt"] = (503, {}, b"")
    with pytest.raises(OctavoError, match=r"robots\.txt"):
        Fetcher(trusted=[server.url]).page(f"{server.url}/open")


def test_a_page_is_kept_with_its_date(server: Any, fetcher: Fetcher, tmp_path: Path) -> None:
    server.page("/", DUCKS)
    cache = PageCache(tmp_path, fetcher)
    first = cache.page(server.url)
    server.page("/", OWLS)
    assert cache.page(server.url) == first
    assert PageCache(tmp_path, fetcher, timedelta(0)).page(server.url).text == OWLS
    (kept,) = tmp_path.iterdir()
    kept.write_text("broken")
    assert cache.page(server.url).text == OWLS


def test_charsets_of_head_and_page_are_read(server: Any, fetcher: Fetcher) -> None:
    server.answers["/a"] = (200, {"Content-Type": "text/html; charset=big5"}, "鴨".encode("big5"))
    server.answers["/b"] = (200, {"Content-Type": "text/html"}, b"<meta charset='gbk'>" + "鸭".encode("gbk"))
    server.answers["/c"] = (200, {"Content-Type": "text/plain; charset=base64"}, "鴨".encode())
    assert [fetcher.page(f"{server.url}/{name}").text[-1] for name in "abc"] == ["鴨", "鸭", "鴨"]
