"""The folder of a run: what lies where, which recipe it was begun with, and one process at a time. No torch here.

Unusual: the text's path may change between two starts and its content may not; everything else in the recipe is fixed.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import FormatError, OctavoError
from octavo.train.recipe import AnyRecipe
from octavo.writing import whole_file

_FREE = ("data.path", "data.source", "data.sha256")
"""Keys that do not change what is computed; the text's own checksum stands for them."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe that the run was begun with, all defaults written out, and the text's checksum."""
        return self.path / "recipe.json"

    @property
    def metrics(self) -> Path:
        """The curve."""
        return self.path / "metrics.jsonl"

    @property
    def tokenizer(self) -> Path:
        """The trained tokenizer."""
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        """What resuming needs."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The finished model, an ordinary Hugging Face folder."""
        return self.path / "model"

    @property
    def adapter(self) -> Path:
        """The finished adapter, a PEFT folder, where one was trained."""
        return self.path / "adapter"

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.path / ".lock"

    @contextmanager
    def opened(self, recipe: AnyRecipe, text_sha256: str, *, restart: bool) -> Iterator[None]:
        """Hold the folder for this process, new or with the same recipe.

        restart: remove what an earlier run left, only files of a run. Raises OctavoError naming each key that differs
        from the recipe of the run, when another process trains here, or when the folder holds something else.
        """
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.recipe.exists() or self.lock.exists()):
            raise OctavoError(f"{self.path} holds other files and no run; choose another folder with --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = self.lock.open("w")
        except OSError as error:
            raise OctavoError(f"the run folder {self.path} cannot be made: {error.strerror}") from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OctavoError(
                    f"another process trains in {self.path}; wait for it, or choose another folder with --out"
                ) from None
            if restart:
                self._clear()
            self._agree(recipe, text_sha256)
            yield

    def _clear(self) -> None:
        for folder in (self.checkpoints, self.tokenizer, self.model, self.adapter):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.metrics, self.recipe):
            file.unlink(missing_ok=True)

    def _agree(self, recipe: AnyRecipe, text_sha256: str) -> None:
        now = {**recipe.model_dump(mode="json"), "text_sha256": text_sha256}
        if not self.recipe.exists():
            with whole_file(self.recipe) as partial:
                partial.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
            return
        try:
            begun = json.loads(self.recipe.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(f"{self.recipe} is damaged ({error}); begin anew with --restart") from None
        differences = compare(begun, now)
        if differences:
            raise OctavoError(
                f"{self.path} was begun with another recipe: {'; '.join(differences)}. "
                "Put it back, choose another folder with --out, or begin anew with --restart"
            )


def compare(begun: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A clause for each key whose value differs, `training.steps was 2000 and is now 3000`."""
    before, after = _flat(begun), _flat(now)
    clauses = []
    for key in dict.fromkeys([*before, *after]):
        was, is_now = before.get(key, "absent"), after.get(key, "absent")
        if key not in _FREE and was != is_now:
            name = "the text's sha256" if key == "text_sha256" else key
            clauses.append(f"{name} was {was!r} and is now {is_now!r}")
    return clauses


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat
