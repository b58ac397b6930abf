"""`verify` passes for models that compute rightly, and finds each fault that is planted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedModel

import octavo.cli
from octavo.examine import verify as module
from octavo.examine.verify import Check, blocks_for, divergence, log_probabilities, sample_ids, verify
from octavo.models.checkpoint import open_checkpoint
from octavo.models.runner import Row, Runner, StepOutput
from octavo.models.transformer import TorchRunner
from octavo.text.tokenizer import Tokenizer

CHECKS = (
    "tokenizer: text = decoded ids", "tokenizer: ids are rows of the embedding", "numbers are finite",
    "prefill = token by token", "cached = computed anew", "alone = beside another",
    "kernels = torch (divergence in nats)",
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of a few thousand weights is only slowed down by more."""
    monkeypatch.setenv("OCTAVO_THREADS", "1")


def failed(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if check.passed is False}


@pytest.mark.parametrize("runner", ["kernels", "torch"])
def test_a_real_model_passes_on_either_runner(runner: str, stories: Path) -> None:
    checks = list(verify(open_checkpoint(stories), runner=runner))  # type: ignore[arg-type]
    assert tuple(check.name for check in checks) == CHECKS
    assert failed(checks) == set() and sum(check.passed is True for check in checks) >= 6


class Faulty:
    """A runner that is wrong in one way."""

    def __init__(self, inner: Runner, fault: str) -> None:
        self._inner = inner
        self._fault = fault
        self.config = inner.config
        self.name = inner.name

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        logits = self._inner.step(rows, hidden=hidden).logits.copy()
        if self._fault == "prefill" and rows[0].start == 0 and len(rows[0].tokens) > 1:
            logits[1, 3] += 1
        if self._fault == "cache" and rows[-1].start > 0:
            logits[:, 3] += 1
        if self._fault == "batch" and len(rows) > 1:
            logits[-1, 3] += 1
        if self._fault == "runner":
            logits *= 1.5
        if self._fault == "nan":
            logits[0, 0] = np.nan
        return StepOutput(logits)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("prefill", {"prefill = token by token"}),
        ("cache", {"prefill = token by token", "cached = computed anew"}),
        ("batch", {"alone = beside another"}),
        ("nan", {"numbers are finite", "prefill = token by token", "cached = computed anew", "alone = beside another"}),
    ],
)
def test_a_planted_fault_is_found(fault: str, found: set[str], stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(checkpoint: object, *, runner: object = None, num_blocks: int) -> Faulty:
        return Faulty(TorchRunner(open_checkpoint(stories), num_blocks=num_blocks), fault)

    monkeypatch.setattr(module, "make_runner", faulty)
    checks = list(verify(open_checkpoint(stories), runner="torch"))
    assert failed(checks) - {CHECKS[-1]} == found


def test_runners_that_differ_are_found(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(checkpoint: object, *, runner: object = None, num_blocks: int) -> Faulty:
        fault = "runner" if runner == "torch" else ""
        return Faulty(TorchRunner(open_checkpoint(stories), num_blocks=num_blocks), fault)

    monkeypatch.setattr(module, "make_runner", made)
    assert failed(list(verify(open_checkpoint(stories), runner="kernels"))) == {CHECKS[-1]}


def test_a_tokenizer_that_loses_text_is_found(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(self: Tokenizer, ids: Sequence[int]) -> str:
        return "a"

    monkeypatch.setattr(Tokenizer, "decode", deaf)
    assert CHECKS[0] in failed(list(verify(open_checkpoint(stories))))


def test_the_divergence_is_the_textbook_s() -> None:
    p, q = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    assert divergence(p, q) == pytest.approx(0.5 * (0.5 * np.log(2) + 0.5 * np.log(2 / 3)))


def test_log_probabilities_are_the_peer_s(tiny: Callable[[str], tuple[Path, PreTrainedModel]]) -> None:
    import torch

    folder, peer = tiny("llama")
    runner = TorchRunner(open_checkpoint(folder), num_blocks=blocks_for(30))
    ids = np.arange(30, dtype=np.int32)
    with torch.no_grad():
        expected = peer(torch.arange(30)[None]).logits[0].double().log_softmax(-1).numpy()
    assert np.abs(log_probabilities(runner, ids) - expected).max() <= 1e-4
    assert np.abs(log_probabilities(runner, ids, begin=10, stop=12) - expected[10:12]).max() <= 1e-4


def test_a_closed_vocabulary_is_sampled_by_counting() -> None:
    tokenizer = Tokenizer.train_characters("abc")
    assert sample_ids(tokenizer, 5).tolist() == [index % tokenizer.vocab_size for index in range(5)]


def test_the_command_prints_a_line_for_each_check_and_its_exit_code_tells(
    stories: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as stopped:
        octavo.cli.main(["verify", str(stories)])
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 0 and len(lines) == len(CHECKS) and all(line.startswith(("ok", "-")) for line in lines)
    monkeypatch.setattr(module, "ROUNDED", -1.0)
    monkeypatch.setattr(module, "FLOAT32", -1.0)
    with pytest.raises(SystemExit) as stopped:
        octavo.cli.main(["verify", str(stories), "--runner", "torch", "--json"])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and "checks failed" in printed.err
    assert json.loads(printed.out)["failed"] >= 3
