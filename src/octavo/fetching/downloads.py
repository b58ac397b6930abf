"""One file from the network to the disk: resumable, checked, and never half there.

The bytes go to `NAME.part`; a dropped connection or an interrupted run continues it with an HTTP Range. Only a file
whose SHA-256 is right gets its name. A part is resumed only where the checksum is known, because only then a mix of two
versions would be noticed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from octavo.errors import FormatError, OctavoError, RemoteError
from octavo.progress import say, track

if TYPE_CHECKING:
    import httpx2

_CHUNK = 1 << 18
_ATTEMPTS = 4
_POLL = 0.2  # seconds between looks at a lock that another process holds
_FIRST_PAUSE = 0.5  # seconds before the second attempt; doubled each time


@dataclass(frozen=True)
class Fetch:
    """What to fetch, and where to. sha256: hexadecimal, None where the index states none. extra: bytes that must be
    free on the disk besides the file itself, for what will be unpacked from it."""

    url: str
    target: Path
    sha256: str | None
    extra: int = 0
    show: bool = True

    @property
    def part(self) -> Path:
        """The unfinished file."""
        return self.target.with_name(self.target.name + ".part")


def fetch_file(client: httpx2.Client, fetch: Fetch) -> Path:
    """Fetch a file and check it; returns its path.

    Raises RemoteError when the server cannot be reached, refuses, or sends other bytes than promised, OctavoError when
    the disk is full. A broken connection leaves the `.part` to continue; anything else leaves nothing.
    """
    import httpx2

    if fetch.sha256 is None:
        fetch.part.unlink(missing_ok=True)
    failure: Exception | None = None
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1))
        try:
            if _append(client, fetch):
                return _finish(fetch)
        except httpx2.HTTPStatusError as error:
            status = error.response.status_code
            if status < 500 and status not in (408, 429):
                fetch.part.unlink(missing_ok=True)
                raise RemoteError(f"{fetch.target.name} cannot be fetched: {describe(error)}") from error
            failure = error
        except httpx2.HTTPError as error:
            failure = error
        except OSError as error:
            fetch.part.unlink(missing_ok=True)
            raise disk_error(error, fetch.target.parent) from error
    have = fetch.part.stat().st_size if fetch.part.exists() else 0
    kept = f"; {have / 1e6:.1f} MB are kept, and the same command continues there" if have and fetch.sha256 else ""
    if not kept:
        fetch.part.unlink(missing_ok=True)
    reason = describe(failure) if failure else "the connection ends before the file does"
    raise RemoteError(f"{fetch.target.name} could not be fetched in {_ATTEMPTS} attempts: {reason}{kept}")


def extract_member(archive: Path, member: str, target: Path, *, append: bool = False, show: bool = True) -> str:
    """Write one member of a zip archive to `target`; returns its SHA-256. The archive says no path: we do.

    append: after what is in `target`, as the next part of it.
    Raises FormatError for an archive that is broken or lies about sizes, OctavoError when the disk is full.
    """
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(zipfile.ZipFile(archive))
            size = opened.getinfo(member).file_size
            source = stack.enter_context(opened.open(member))
        except Exception as error:  # a broken archive raises OSError, BadZipFile, NotImplementedError, KeyError …
            raise FormatError(f"{archive.name} is not a sound archive: {error}") from error
        check_space(target.parent, size)
        work = stack.enter_context(track(size, f"Unpacking {target.name}", unit="B", show=show))
        try:
            with target.open("ab" if append else "wb") as sink:
                for chunk in _chunks(source, archive):
                    if work.done + len(chunk) > size:
                        raise FormatError(f"{archive.name}: {member} is larger than the archive says ({size} bytes)")
                    sink.write(chunk)
                    digest.update(chunk)
                    work.advance(len(chunk))
        except OSError as error:
            raise disk_error(error, target.parent) from error
    return digest.hexdigest()


def find_member(archive: Path, wanted: str | None, ending: str) -> str:
    """The member with a name or path; None: the only one with that ending. Raises OctavoError, listing them."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [name for name in opened.namelist() if name.lower().endswith(ending)]
    except zipfile.BadZipFile as error:
        raise FormatError(f"{archive.name} is not a sound archive: {error}") from error
    if wanted is None:
        matches = members
    else:
        matches = [name for name in members if name == wanted or PurePosixPath(name).name == wanted]
    if len(matches) != 1:
        listed = ", ".join(members) or f"no {ending} file at all"
        what = f"a file {wanted!r}" if wanted else f"exactly one {ending} file"
        raise OctavoError(f"{archive.name} does not hold {what}; it holds {listed}: name one after '#'")
    return matches[0]


def members_below(archive: Path, folder: str) -> list[str]:
    """The files below a folder of a zip archive. Raises FormatError where there are none or one would climb out."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [name for name in opened.namelist() if name.startswith(folder) and not name.endswith("/")]
    except zipfile.BadZipFile as error:
        raise FormatError(f"{archive.name} is not a sound archive: {error}") from error
    if not members:
        raise FormatError(f"{archive.name} has no folder {folder}; it is another release than the one expected")
    for name in members:
        rest = PurePosixPath(name.removeprefix(folder))
        if rest.is_absolute() or ".." in rest.parts or "\\" in name:
            raise FormatError(f"{archive.name} has the file {name!r}, whose path leads out of its folder")
    return members


def check_space(folder: Path, needed: int) -> None:
    """Raises OctavoError when the disk of a folder has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OctavoError(
            f"the disk of {folder} has {free / 1e6:.0f} MB free, but {needed / 1e6:.0f} MB are needed; free some, or "
            "set OCTAVO_HOME to a folder on another disk"
        )


def disk_error(error: OSError, folder: Path) -> OctavoError:
    """The one sentence for a disk that is full or will not be written to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OctavoError(f"the disk of {folder} is full; free some space, or set OCTAVO_HOME to another disk")
    return OctavoError(f"{folder} cannot be written to: {error.strerror or error}; set OCTAVO_HOME to another folder")


def describe(error: Exception) -> str:
    """A network error in a few words, without credentials."""
    import httpx2

    request = getattr(error, "_request", None)
    host = request.url.host if request is not None else "the server"
    if isinstance(error, httpx2.HTTPStatusError):
        return f"{host} answers {error.response.status_code} {error.response.reason_phrase}"
    if isinstance(error, httpx2.TimeoutException):
        return f"{host} does not answer in time"
    text = str(error).strip() or type(error).__name__
    return f"no connection to {host} ({text})" if isinstance(error, httpx2.ConnectError) else f"{host}: {text}"


def _append(client: httpx2.Client, fetch: Fetch) -> bool:
    """Continue the part by one request; whether it is whole now."""
    have = fetch.part.stat().st_size if fetch.part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", fetch.url, headers=headers) as response:
        if response.status_code == 416:  # nothing past the part: it is whole, or of another file; the checksum tells
            return True
        response.raise_for_status()
        if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        check_space(fetch.target.parent, (total or have) - have + fetch.extra)
        with (
            fetch.part.open("ab" if have else "wb") as sink,
            track(total, f"Downloading {fetch.target.name}", unit="B", done=have, show=fetch.show) as work,
        ):
            for chunk in response.iter_raw():
                sink.write(chunk)
                work.advance(len(chunk))
    return total is None or fetch.part.stat().st_size >= total


def _finish(fetch: Fetch) -> Path:
    if fetch.sha256 is not None:
        found = sha256_of(fetch.part)
        if found != fetch.sha256:
            fetch.part.unlink()
            raise RemoteError(
                f"{fetch.target.name} has a wrong checksum (SHA-256 {found[:16]}…, expected {fetch.sha256[:16]}…), so "
                "it was deleted; try again, and if it stays so, ask whoever runs the index or mirror"
            )
    fetch.part.replace(fetch.target)
    return fetch.target


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(source: IO[bytes], archive: Path) -> Iterator[bytes]:
    while True:
        try:
            chunk = source.read(_CHUNK)
        except Exception as error:  # a broken archive raises OSError, zlib.error, EOFError …
            raise FormatError(f"{archive.name} is not a sound archive: {error}") from error
        if not chunk:
            return
        yield chunk


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock file, waiting for whoever holds it, which `waiting` says; the lock dies with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if not _try_lock(file):
            say(waiting)
            while not _try_lock(file):
                time.sleep(_POLL)
        yield  # closing the file lets go


def _try_lock(file: IO[Any]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
