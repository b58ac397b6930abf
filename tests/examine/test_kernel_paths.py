"""What the kernels say of their own paths."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import MissingDependencyError
from octavo.examine.kernel_paths import operation_paths
from octavo.nn.config import MlpConfig
from octavo.nn.kernels import binding

try:
    if "avx2" not in binding.machine_levels():
        pytest.skip("the paths are those of avx2", allow_module_level=True)
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

MODELS: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "models/kernel_models.py"))


def test_a_runner_says_which_operation_runs_on_which_path() -> None:
    config = replace(MODELS["CONFIGS"]["experts"], mlp=MlpConfig(96, "gelu", gated=True))
    source = MODELS["encoded"](MODELS["loud_model"](config), "q4_1")
    with MODELS["kernels"](source, "avx2", kv_cache="int8") as runner:
        said = {path.operation: (path.path, path.why) for path in operation_paths(runner)}
    matrices = 1 + config.num_layers * (4 + 1 + 3 * 5)
    assert said[f"products with q4_1 ({matrices})"][1].endswith("vpmaddubsw")
    assert said["attention over int8 keys and values"][0] == "vectors"
    assert said["activation gelu"][0] == said["choosing experts"][0] == "plain C"
    assert "soft caps" not in said
