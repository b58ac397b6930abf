"""A first load on the kernels: dense matrices are read as they lie in their file until the packed ones are written."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError
from octavo.models.compiled import CompiledRunner
from octavo.models.packing.cache import PackCache, PackedMatrix
from octavo.models.runner import Row
from octavo.nn.kernels import binding
from octavo.nn.kernels.handle import KernelModel

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

MODELS: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "kernel_models.py"))
CONFIGS, loud_model, encoded, kernels, sequence = (
    MODELS[name] for name in ("CONFIGS", "loud_model", "encoded", "kernels", "sequence")
)


class Held(PackCache):
    """Writes when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, Path("model"), "identity")
        self.may_write = threading.Event()

    def write(self, matrices: Mapping[str, PackedMatrix]) -> bool:
        assert self.may_write.wait(60)
        return super().write(matrices)


def source(name: str, encoding: str) -> Any:
    """A model whose arrays are as read-only as those of a mapped file."""
    made = encoded(loud_model(CONFIGS[name]), encoding)
    for tensor in made.tensors.values():
        tensor.data.flags.writeable = False
    return made


def answers(runner: CompiledRunner) -> list[NDArray[np.float32]]:
    """Prompts of 41, 3 and 1 tokens, and a token behind each, in one step."""
    tokens = sequence(runner.config, 45)
    rows = [Row(tokens[:41], 0, range(3), 0)], [Row(tokens[:3], 0, [3], 0), Row(tokens[2:3], 0, [4], 0)]
    found = [runner.step(step).logits for step in rows]
    after = [Row(tokens[41:42], 41, range(3), 0), Row(tokens[9:10], 3, [3], 0), Row(tokens[7:8], 1, [4], 0)]
    return [*found, runner.step(after).logits]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("encoding", ["bf16", "f32"])
@pytest.mark.parametrize("name", [
    "llama", "gpt2", "untied", "biases", "layer norm", "groups of experts", "parallel",
    "latent, with queries of low rank",
])  # fmt: skip
def test_stored_packed_and_written_matrices_give_the_same_bits(
    name: str, encoding: str, level: str, tmp_path: Path
) -> None:
    model = source(name, encoding)
    with kernels(model, level) as runner:
        expected = answers(runner)
    cache = Held(tmp_path / "a.packed")
    with kernels(model, level, cache=cache) as runner:
        assert runner._stored, "nothing is read as it is stored"
        stored = answers(runner)
        cache.may_write.set()
        runner._writing.join()
        written = answers(runner)
        assert not runner._stored
    for found in (stored, written):
        assert all(map(np.array_equal, found, expected))
    with kernels(model, level, cache=cache) as runner:
        assert not runner._stored and runner._writing is None
        assert all(map(np.array_equal, answers(runner), expected))


def test_what_another_matrix_left_in_the_padding_of_a_panel_does_not_count(tmp_path: Path) -> None:
    """The low half of a float32 number may be a bfloat16 that is no number."""
    model, wide = source("layer norm", "bf16"), source("layer norm", "f32")
    mixed = {name: (wide if number % 2 else model).tensors[name] for number, name in enumerate(model.tensors)}
    model = replace(model, tensors=mixed)
    assert {tensor.encoding for tensor in mixed.values() if len(tensor.shape) == 2} == {"bf16", "f32"}
    with kernels(model, LEVELS[-1], threads=1) as runner:
        expected = answers(runner)
    cache = Held(tmp_path / "a.packed")
    with kernels(model, LEVELS[-1], threads=1, cache=cache) as runner:
        assert all(map(np.array_equal, answers(runner), expected))
        cache.may_write.set()


def test_the_switch_is_made_between_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Held(tmp_path / "a.packed")
    with kernels(source("untied", "bf16"), LEVELS[-1], cache=cache) as runner:
        tokens = sequence(runner.config, 20)
        runner.step([Row(tokens[:12], 0, range(2), 0)])
        used: list[str] = []
        use = KernelModel.use_matrix
        monkeypatch.setattr(KernelModel, "use_matrix", lambda self, *given: (used.append(given[1]), use(self, *given)))
        cache.may_write.set()
        runner._writing.join()
        assert used == []
        runner.step([Row(tokens[12:], 12, range(2), 0)])
        assert len(used) == 16


def test_where_the_disk_refuses_the_file_weights_are_packed_in_memory(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("a file where a folder should be")
    model, cache = source("llama", "bf16"), Held(tmp_path / "full/a.packed")
    with kernels(model, LEVELS[-1]) as runner:
        expected = answers(runner)
    with kernels(model, LEVELS[-1], cache=cache) as runner:
        cache.may_write.set()
        runner._writing.join()
        assert all(map(np.array_equal, answers(runner), expected))
        assert not runner._stored


def test_refresh_reads_weights_that_have_changed_whatever_was_written(tmp_path: Path) -> None:
    model, cache = source("llama", "f32"), Held(tmp_path / "a.packed")
    with kernels(model, LEVELS[-1], cache=cache) as runner:
        cache.may_write.set()
        changed = model.tensors["blocks.0.attention.q.weight"]
        changed.data.flags.writeable = True
        changed.bits()[:] *= 3
        runner.refresh()
        found = answers(runner)
    with kernels(model, LEVELS[-1]) as runner:
        assert all(map(np.array_equal, found, answers(runner)))


@pytest.mark.parametrize("encoding", ["q8_0", "q4_0"])
def test_quantised_matrices_are_packed_at_once(encoding: str, tmp_path: Path) -> None:
    cache = Held(tmp_path / "a.packed")
    with kernels(source("llama", encoding), LEVELS[-1], cache=cache) as runner:
        assert not runner._stored
        cache.may_write.set()
