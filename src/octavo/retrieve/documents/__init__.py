"""Documents in: a file of any known format becomes a `Document`, one canonical text with its pages and headings.

`read(path)` raises for a file it cannot read; `read_folder(folder)` goes on and yields a `Skipped` with the reason. For
files that others wrote `Reader().read(path)` adds limits on time and memory.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.retrieve.documents.document import Document as Document
    from octavo.retrieve.documents.document import Limits as Limits
    from octavo.retrieve.documents.document import Skipped as Skipped
    from octavo.retrieve.documents.document import Span as Span
    from octavo.retrieve.documents.folder import read_folder as read_folder
    from octavo.retrieve.documents.reading import read as read
    from octavo.retrieve.documents.worker import Reader as Reader

_HOMES = {
    "Document": "octavo.retrieve.documents.document",
    "Limits": "octavo.retrieve.documents.document",
    "Reader": "octavo.retrieve.documents.worker",
    "Skipped": "octavo.retrieve.documents.document",
    "Span": "octavo.retrieve.documents.document",
    "read": "octavo.retrieve.documents.reading",
    "read_folder": "octavo.retrieve.documents.folder",
}

__all__ = ["Document", "Limits", "Reader", "Skipped", "Span", "read", "read_folder"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
