"""Quantised weights cost next to nothing: perplexity of the real SmolLM2 over English and code.

The shipped Q4_1 file stays within 0.5 % of torch on its expanded weights, which has no int8 activations, and int8
within 0.5 % of bf16; over 4,096 tokens a difference has a standard error of about 0.15 %, so it is measured over more.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.runner import Row
from octavo.models.tensors import StoredTensor
from octavo.nn.kernels import binding

try:
    binding.library()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

WINDOW, TOKENS = 512, 8192


@pytest.fixture(scope="module")
def checkpoint(smollm2: Path) -> Checkpoint:
    return open_checkpoint(smollm2)


@pytest.fixture(scope="module")
def windows(checkpoint: Checkpoint) -> NDArray[np.int32]:
    """(windows, WINDOW) ids of this project's own documents and code."""
    root = Path(__file__).resolve().parents[3]
    files = [root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted((root / "src/octavo").glob("*.py"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    ids = np.array(checkpoint.tokenizer().encode(text), np.int32)
    assert len(ids) >= TOKENS
    return ids[:TOKENS].reshape(-1, WINDOW)


def perplexity(runner: Any, windows: NDArray[np.int32]) -> float:
    """Of each token but a window's first, given the window before it."""
    total = 0.0
    for ids in windows:
        logits = runner.step([Row(ids, 0, range(WINDOW // 16), 0)]).logits.astype(np.float64)[:-1]
        logits -= logits.max(-1, keepdims=True)
        total += float((np.log(np.exp(logits).sum(-1)) - logits[np.arange(WINDOW - 1), ids[1:]]).sum())
    return math.exp(total / (len(windows) * (WINDOW - 1)))


def kernels(checkpoint: Checkpoint, windows: NDArray[np.int32], quantize: str | None = None) -> float:
    runner = CompiledRunner(checkpoint, num_blocks=WINDOW // 16, quantize=quantize)
    found = perplexity(runner, windows)
    runner.close()
    return found


@pytest.mark.slow
def test_int8_is_within_half_a_percent_of_bf16(checkpoint: Checkpoint, windows: NDArray[np.int32]) -> None:
    def bf16(tensor: StoredTensor) -> StoredTensor:
        bits = tensor.dequantize().view(np.uint32)
        return StoredTensor.from_bits("bf16", ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16))

    dense = replace(checkpoint, tensors={name: bf16(tensor) for name, tensor in checkpoint.tensors.items()})
    expected, found = kernels(dense, windows), kernels(dense, windows, "int8")
    assert abs(found / expected - 1) <= 0.005


@pytest.mark.slow
def test_the_shipped_file_is_within_half_a_percent_of_its_expanded_weights(
    checkpoint: Checkpoint, windows: NDArray[np.int32]
) -> None:
    from octavo.models.transformer import TorchRunner

    windows = windows[: 4096 // WINDOW]  # enough for torch's pace
    expected = perplexity(TorchRunner(checkpoint, num_blocks=WINDOW // 16), windows)
    found = kernels(checkpoint, windows)
    assert abs(found / expected - 1) <= 0.005
