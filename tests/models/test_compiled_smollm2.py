"""The kernels on a real quantised model, at every level of this machine, against golden values and torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.runner import Row
from octavo.nn.kernels import binding

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

Logits = NDArray[np.float32]


@pytest.fixture(scope="module")
def checkpoint(smollm2: Path) -> Checkpoint:
    return open_checkpoint(smollm2)


@pytest.fixture(scope="module", params=LEVELS)
def runner(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Iterator[CompiledRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTAVO_KERNELS", request.param)
        made = CompiledRunner(checkpoint, num_blocks=16)
    yield made
    made.close()


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, golden: dict[str, Any]) -> Logits:
    """fp32 logits of the golden text."""
    from octavo.models.transformer import TorchRunner

    ids = np.array(golden["perplexity"]["ids"], np.int32)
    return TorchRunner(checkpoint, num_blocks=16).step([Row(ids, 0, range(16), 0)]).logits


def mean_nll(logits: Logits, ids: NDArray[np.int32]) -> float:
    scores = logits[:-1].astype(np.float64)
    scores -= scores.max(-1, keepdims=True)
    picked = scores[np.arange(len(ids) - 1), ids[1:]]
    return float((np.log(np.exp(scores).sum(-1)) - picked).mean())


def test_the_golden_text_has_its_nll_and_the_references_argmax(
    runner: CompiledRunner, golden: dict[str, Any], reference: Logits
) -> None:
    ids = np.array(golden["perplexity"]["ids"], np.int32)
    logits = runner.step([Row(ids, 0, range(16), 0)]).logits
    assert mean_nll(logits, ids) == pytest.approx(golden["perplexity"]["mean_nll"], abs=0.03)
    assert (logits.argmax(-1) == reference.argmax(-1)).mean() >= 0.95


def test_keys_and_values_in_int8_leave_the_golden_text_its_nll(
    runner: CompiledRunner, checkpoint: Checkpoint, golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.array(golden["perplexity"]["ids"], np.int32)
    natural = runner.step([Row(ids, 0, range(16), 0)]).logits
    monkeypatch.setenv("OCTAVO_KERNELS", runner.name.removeprefix("kernels "))
    halved = CompiledRunner(checkpoint, num_blocks=16, kv_cache="int8")
    logits = halved.step([Row(ids, 0, range(16), 0)]).logits
    halved.close()
    assert not np.array_equal(logits, natural)
    assert mean_nll(logits, ids) == pytest.approx(mean_nll(natural, ids), abs=0.02)


@pytest.mark.parametrize("prompt", ["chat", "raw", "chat_multi"])
def test_greedy_ids_are_golden_where_the_choice_is_clear(
    runner: CompiledRunner, golden: dict[str, Any], prompt: str
) -> None:
    case = golden["greedy"][prompt]
    start, expected = len(case["prompt_ids"]), np.array(case["new_ids_40_no_stop"])
    ids = np.array([*case["prompt_ids"], *case["new_ids_40_no_stop"][:-1]], np.int32)
    got = runner.step([Row(ids, 0, range(16), start - 1)]).logits.argmax(-1)
    clear = np.array(case["gaps"]) > 0.5
    assert clear.sum() >= 10
    assert np.array_equal(got[clear], expected[clear])


def test_stories_has_its_golden_ids(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    cases = json.loads((stories / "golden.json").read_text())["greedy"]
    for level in LEVELS:
        monkeypatch.setenv("OCTAVO_KERNELS", level)
        runner = CompiledRunner(open_checkpoint(stories), num_blocks=32, threads=1)
        for case in cases:
            assert greedy(runner, case["prompt_ids"], len(case["new_ids"])) == case["new_ids"]
        runner.close()


def greedy(runner: CompiledRunner, prompt: list[int], count: int) -> list[int]:
    tokens, start, result = np.array(prompt, np.int32), 0, []
    for _ in range(count):
        row = Row(tokens, start, range(32), len(tokens) - 1)
        result.append(int(runner.step([row]).logits[0].argmax()))
        tokens, start = np.array(result[-1:], np.int32), start + len(tokens)
    return result
