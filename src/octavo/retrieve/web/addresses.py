"""Which addresses may be fetched: public ones alone, and what the person named themselves.

A page can send its reader anywhere, so each address is looked up once, every number it resolves to is checked, and the
connection is made to the number that was checked: a name that resolves to something else a moment later is not asked
again. Redirects go through here as well.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from octavo.errors import OctavoError

PORTS: Final = {"http": 80, "https": 443}
Resolve = Callable[..., list[tuple[Any, ...]]]
"""As `socket.getaddrinfo`."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Target:
    """Where to connect. number: the checked IP address. path: with the query."""

    scheme: str
    host: str
    port: int
    number: str
    path: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, as browsers part sites."""
        return _origin(self.scheme, self.host, self.port)


def target(url: str, trusted: Collection[str] = (), resolve: Resolve = socket.getaddrinfo) -> Target:
    """Where a URL leads. trusted: origins that may be anywhere, such as http://127.0.0.1:8888.

    Raises OctavoError for what is not a public http or https address on its usual port.
    """
    parts, port = _parts(url)
    host = parts.hostname or ""
    if parts.username is not None or parts.password is not None:
        raise OctavoError(f"{_shown(url)} holds a user name, which is not sent; leave it out")
    known = _origin(parts.scheme, host, port) in {origin_of(name) for name in trusted}
    if not known and port != PORTS[parts.scheme]:
        raise OctavoError(f"{_shown(url)} is at port {port}; only 80 and 443 are fetched from")
    try:
        found = [str(entry[4][0]) for entry in resolve(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise OctavoError(f"there is no host {host}") from None
    refused = [number for number in found if not is_public(number)]
    if not found or (refused and not known):
        raise OctavoError(f"{_shown(url)} is a private address ({', '.join(refused)}), which is not fetched")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, found[0], path)


def is_public(number: str) -> bool:
    """Whether an IP address is one that anybody may be asked to fetch from, also where it wraps another in itself."""
    address = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def origin_of(url: str) -> str:
    """The origin of a URL. Raises OctavoError for one that is not http or https."""
    parts, port = _parts(url)
    return _origin(parts.scheme, parts.hostname or "", port)


def _parts(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise OctavoError(f"{_shown(url)} is not an http or https address") from None
    if not parts.hostname or any(character <= " " for character in url):
        raise OctavoError(f"{_shown(url)} is not an http or https address")
    return parts, port


def _origin(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}".lower()


def _shown(url: str) -> str:
    """A URL for a message, without what may be secret in it."""
    return repr(re.sub(r"//[^/@]*@", "//", url.split("?")[0])[:120])
