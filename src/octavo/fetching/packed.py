"""Where what the kernels packed from a model is kept, so that removing the model removes it too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from octavo import settings


def packed_folder() -> Path:
    """The folder of all packed weights."""
    return settings.cache_dir() / "packed"


def packed_stem(source: Path) -> str:
    """What the names of files packed from a model at that resolved path begin with."""
    return f"{source.stem}-{hashlib.sha256(str(source).encode()).hexdigest()[:16]}"


def remove_packed(source: Path) -> None:
    """Delete what was packed from a model at that path."""
    for path in packed_folder().glob(f"{packed_stem(source.resolve())}*.packed"):
        path.unlink(missing_ok=True)
