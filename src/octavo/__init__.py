"""Octavo runs, trains, serves and measures language models on your own machine.

Lazy: a name costs its module only when it is used, so `import octavo` takes milliseconds and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.errors import OctavoError
    from octavo.generate.lm import LanguageModel, Request, Sampling, complete
    from octavo.generate.local import load
    from octavo.generate.remote import RemoteModel
    from octavo.text.tokenizer import Tokenizer
    from octavo.train import Trainer

    __version__: str

_HOMES = {
    "LanguageModel": "generate.lm",
    "OctavoError": "errors",
    "RemoteModel": "generate.remote",
    "Request": "generate.lm",
    "Sampling": "generate.lm",
    "Tokenizer": "text.tokenizer",
    "Trainer": "train",
    "complete": "generate.lm",
    "load": "generate.local",
}

__all__ = [
    "LanguageModel",
    "OctavoError",
    "RemoteModel",
    "Request",
    "Sampling",
    "Tokenizer",
    "Trainer",
    "__version__",
    "complete",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("octavo")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
