"""`mcp.toml`: the MCP servers that the user lets a model use. No request can name another.

    [files]
    command = ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/me/notes"]
    allow = ["read_file"]

    [weather]
    url = "https://mcp.example.org/mcp"
    token-file = "weather.token"

`allow` names the tools that are called without asking; "*" is every tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from octavo import settings
from octavo.errors import FormatError, OctavoError, UnknownNameError, nearest

KEYS: Final[Mapping[str, type]] = {
    "command": list,
    "env": dict,
    "url": str,
    "token-file": str,
    "allow": list,
    "timeout": int,
}
NAME: Final = r"[A-Za-z0-9_-]{1,32}"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ServerEntry:
    """A server. Either command, which is started and spoken to on its stdin and stdout, or url (streamable HTTP).

    allow: tools that need no confirmation. token: sent as `Authorization: Bearer`. timeout: seconds for an answer.
    """

    name: str
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    url: str | None = None
    token: str | None = None
    allow: tuple[str, ...] = ()
    timeout: int = 60

    def allows(self, tool: str) -> bool:
        """Whether the tool is called without asking."""
        return tool in self.allow or "*" in self.allow


def read_servers(path: Path) -> list[ServerEntry]:
    """The servers of a file. Raises OctavoError for what is missing, malformed or unsafe, with the place."""
    import tomllib

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OctavoError(f"there is no {path}; name the MCP servers there, as docs/server.md shows") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not TOML: {error}") from None
    if not found:
        raise OctavoError(f"{path} names no server")
    return [_entry(path, name, table) for name, table in found.items()]


def _entry(path: Path, name: str, table: Any) -> ServerEntry:
    where = f"{path}: [{name}]"
    if not isinstance(table, dict) or not re.fullmatch(NAME, name):
        raise FormatError(f"{path}: {name[:60]!r} is no table of a server, named by letters, digits, - and _")
    for key, value in table.items():
        if key not in KEYS:
            raise UnknownNameError(f"{where} has no key {key!r}{nearest(key, KEYS) or '; it has ' + ', '.join(KEYS)}")
        if type(value) is not KEYS[key] or not _of_texts(value):
            raise FormatError(f"{where}: {key} = {value!r} is of another kind")
    if ("command" in table) == ("url" in table):
        raise FormatError(f"{where} needs either a command, as a list of words, or a url")
    if "command" in table and (not table["command"] or "token-file" in table):
        raise FormatError(f"{where}: a command has words, and its secrets are in env")
    if "env" in table and "url" in table:
        raise FormatError(f"{where}: env is a command's")
    url = _checked_url(where, table["url"], "token-file" in table) if "url" in table else None
    timeout = table.get("timeout", 60)
    if not 1 <= timeout <= 3600:
        raise FormatError(f"{where}: timeout = {timeout} is not from 1 to 3600 seconds")
    return ServerEntry(
        name,
        tuple(table.get("command", ())),
        tuple(table.get("env", {}).items()),
        url,
        _token(path, table["token-file"]) if "token-file" in table else None,
        tuple(table.get("allow", ())),
        timeout,
    )


def _of_texts(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(isinstance(entry, str) for entry in inner)


def _checked_url(where: str, url: str, secret: bool) -> str:
    """The address. Parsers differ on user names and backslashes, so there are none; a secret travels encrypted."""
    parts = urlsplit(url)
    plain = url.isascii() and url.isprintable() and not set("\\@ ") & set(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise FormatError(f"{where}: url = {url!r} is no http or https address without user name")
    local = parts.hostname in LOOPBACK
    if parts.scheme == "http" and secret and not local:
        raise FormatError(f"{where}: a token goes over https only")
    if settings.offline() and not local:
        raise OctavoError(f"{where} is on another machine, and OCTAVO_OFFLINE is set")
    return url


def _token(path: Path, name: str) -> str:
    file = path.parent / Path(name).expanduser()
    try:
        if file.stat().st_mode & 0o077:
            raise OctavoError(f"others on this machine can read {file}; keep it to yourself: chmod 600 {file}")
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OctavoError(f"the token file {file} cannot be read: {error}") from None
    if not (token and token.isascii() and token.isprintable()):
        raise OctavoError(f"the token file {file} holds no token")
    return token
