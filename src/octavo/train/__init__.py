"""Training: one `Trainer`; recipes, data and objectives are handed to it.

Lazy: a name costs its module only when it is used, and the recipe's modules import no torch, so that a typo in a recipe
is answered at once and without the training stack.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from octavo.errors import MissingDependencyError

if TYPE_CHECKING:
    from octavo.train.data import DataSource, Windows
    from octavo.train.objectives.causal_lm import CausalLM
    from octavo.train.objectives.objective import Batch, Objective
    from octavo.train.reading.run import train_reader
    from octavo.train.recipe import Recipe, load_recipe
    from octavo.train.run import RunResult, train_recipe
    from octavo.train.trainer import Trainer

_HOMES = {
    "Batch": "objectives.objective",
    "CausalLM": "objectives.causal_lm",
    "DataSource": "data",
    "Objective": "objectives.objective",
    "Recipe": "recipe",
    "RunResult": "run",
    "Trainer": "trainer",
    "Windows": "data",
    "load_recipe": "recipe",
    "train_reader": "reading.run",
    "train_recipe": "run",
}

__all__ = [
    "Batch",
    "CausalLM",
    "DataSource",
    "Objective",
    "Recipe",
    "RunResult",
    "Trainer",
    "Windows",
    "load_recipe",
    "train_reader",
    "train_recipe",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingDependencyError("training needs torch: pip install 'octavo[train]'") from error
