"""A run's curve: what happens in it as events, and the JSON lines that keep it.

Unusual: on resuming, lines after the checkpoint's step are cut off, so that a killed and resumed run leaves the very
lines of an uninterrupted one (but for tokens a second).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from octavo.writing import whole_file


@dataclass(frozen=True)
class Stepped:
    """One optimizer step. loss: mean nats a target over the step; grad_norm: L2, before clipping."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    """Targets since the beginning of the run."""
    tokens_per_second: float
    """Since the last logged step, validation and saving left out."""


@dataclass(frozen=True)
class Validated:
    """A pass over the validation data; validation_loss: mean nats a target."""

    step: int
    validation_loss: float
    best: bool


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written."""

    step: int
    path: Path


@dataclass(frozen=True)
class Noted:
    """A sentence for the person who watches."""

    text: str


Event = Stepped | Validated | Saved | Noted


class MetricsLog:
    """`metrics.jsonl`: one line a logged step or validation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: Stepped | Validated) -> None:
        """Add a line."""
        line = asdict(event)
        line.pop("best", None)  # what is best depends on what comes later
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All whole lines; a last one that a kill cut short is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def cut_after(self, step: int) -> None:
        """Remove lines of later steps, atomically."""
        if not self.path.exists():
            return
        kept = [json.dumps(row) + "\n" for row in self.rows() if row["step"] <= step]
        with whole_file(self.path) as partial:
            partial.write_text("".join(kept), encoding="utf-8")
