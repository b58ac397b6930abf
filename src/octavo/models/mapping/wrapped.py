"""The language model of a folder that holds more, such as one that sees: its config, and its tensors by its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from octavo.errors import FormatError
from octavo.models.mapping.tables.wrapped_texts import (
    CLASS_DEFAULTS,
    IMPLIED,
    OTHER,
    OTHER_KEYS,
    PREFIXES,
    SHARED_KEYS,
    TEXT_TYPES,
)

Entry = TypeVar("Entry")


def text_config(hub: Mapping[str, Any], tied: bool, source: str) -> dict[str, Any] | None:
    """The config of the language model, in hub spelling; None: the folder holds nothing else.

    A text_config may leave out what is its class's default; older files have its keys beside the others' configs.
    tied: whether there is no head, which says it for sure.
    """
    outer = TEXT_TYPES.get(str(hub.get("model_type")))
    text = hub.get("text_config")
    if text is None and outer is not None:
        text = {key: value for key, value in hub.items() if key not in OTHER_KEYS} | {"model_type": outer}
    if text is None:
        return None
    if not isinstance(text, dict):
        raise FormatError(f"{source} has text_config {text!r}; it must be an object", param="text_config")
    own = str(text.get("model_type") or outer or "llama")
    kind = TEXT_TYPES.get(own, own)
    shared = {key: hub[key] for key in SHARED_KEYS if key in hub}
    said = {"model_type": kind, "tie_word_embeddings": tied}
    return {**shared, **CLASS_DEFAULTS.get(kind, {}), **IMPLIED.get(own, {}), **text, **said}


def split(entries: Mapping[str, Entry]) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """The language model's tensors, by their names in a file of it alone, and the others."""
    language: dict[str, Entry] = {}
    rest: dict[str, Entry] = {}
    prefixes = [prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in entries)]
    for name, entry in entries.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is not None:
            language[PREFIXES[prefix] + name.removeprefix(prefix)] = entry
        elif name.startswith("lm_head.") or not (prefixes or name.startswith(OTHER)):
            language[name] = entry
        else:
            rest[name] = entry
    return language, rest
