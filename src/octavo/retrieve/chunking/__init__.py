"""Chunks out: a document cut into passages that know exactly where they stand in it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.retrieve.chunking.splitting import Chunk as Chunk
    from octavo.retrieve.chunking.splitting import split as split

_HOMES = {"Chunk": "octavo.retrieve.chunking.splitting", "split": "octavo.retrieve.chunking.splitting"}

__all__ = ["Chunk", "split"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
