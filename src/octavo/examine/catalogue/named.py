"""Models by the names that the lecture and its readers use, each with the config that it was published with.

So `octavo fit llama-2-70b` needs neither weights nor a network. The table is `named.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("named.json")


@dataclass(frozen=True)
class NamedModel:
    """system: its row of docs/lecture.md, None where the lecture does not name it. reference: where it can be pulled
    from, None where its weights were never published. config: in hub spelling."""

    system: int | None
    reference: str | None
    licence: str
    config: Mapping[str, Any]


@cache
def named_models() -> Mapping[str, NamedModel]:
    """Name -> model, in the order of the lecture."""
    return {name: NamedModel(**row) for name, row in json.loads(FILE.read_text(encoding="utf-8")).items()}
