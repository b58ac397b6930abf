"""Text in, token ids out, and back: tokenizers, chat templates, incremental detokenising. Knows no tensor."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.text.detokenizer import Detokenizer as Detokenizer
    from octavo.text.tokenizer import Tokenizer as Tokenizer

_HOMES = {"Tokenizer": "octavo.text.tokenizer", "Detokenizer": "octavo.text.detokenizer"}

__all__ = ["Detokenizer", "Tokenizer"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
