"""Which folders a server shows as vector stores. Light, since settings are made before anything slow is imported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True)
class ServedFolder:
    """A folder with the name that people see. quiet: no progress on stderr."""

    path: Path
    name: str
    quiet: bool = False

    @property
    def store_id(self) -> str:
        """The same at each start."""
        return f"vs_{hashlib.sha256(str(self.path.resolve()).encode('utf-8', 'surrogateescape')).hexdigest()[:24]}"


def manual() -> ServedFolder | None:
    """Octavo's own manual, as it is installed or in a checkout; None where neither is there."""
    package = Path(str(files("octavo")))
    places = (package / "manual", package.parents[1] / "docs")
    return next((ServedFolder(place, "Octavo’s manual", quiet=True) for place in places if place.is_dir()), None)
