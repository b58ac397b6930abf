"""The real Gemma 3 270M, mixed of five encodings: torch and the kernels against what `transformers` makes of its file.

The peer reads and expands the GGUF file by its own code and the format's own library.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.runner import Row, Runner
from octavo.models.transformer import TorchRunner

Ids = NDArray[np.int32]
Logits = NDArray[np.float32]
COUNT = 560
"""More tokens than its window of 512."""


@pytest.fixture(scope="module")
def gemma3() -> Path:
    """The file, given by OCTAVO_TEST_GEMMA3 or installed; it is under Gemma's licence, so that no test pulls it."""
    given = os.environ.get("OCTAVO_TEST_GEMMA3")
    if given:
        return Path(given)
    from octavo.errors import OctavoError
    from octavo.fetching import sources

    try:
        return sources.resolve("gemma-3-270m")
    except OctavoError:
        pytest.skip("set OCTAVO_TEST_GEMMA3, or octavo pull gemma-3-270m --accept-licence gemma")


def logits_of(runner: Runner, ids: Ids) -> Logits:
    """(tokens, vocab_size), in two steps."""
    blocks, parts = range(-(-len(ids) // 16)), []
    for begin in range(0, len(ids), 500):
        parts.append(runner.step([Row(ids[begin : begin + 500], begin, blocks, 0)]).logits)
    runner.close()
    return np.concatenate(parts)


@pytest.mark.slow
def test_logits_past_its_window_equal_transformers(gemma3: Path) -> None:
    from transformers import AutoModelForCausalLM

    checkpoint = open_checkpoint(gemma3)
    assert {tensor.encoding for tensor in checkpoint.tensors.values()} == {"q4_k", "q5_0", "q6_k", "q8_0", "f32"}
    text = (Path(__file__).parents[2] / "docs/server.md").read_text(encoding="utf-8")
    ids = np.array(checkpoint.tokenizer().encode(text)[:COUNT], np.int32)
    assert len(ids) == COUNT and ids[0] == checkpoint.tokenizer().bos_id
    peer: Any = AutoModelForCausalLM.from_pretrained(gemma3.parent, gguf_file=gemma3.name, dtype=torch.float32)
    with torch.no_grad():
        expected = peer(torch.tensor(ids.astype(np.int64))[None]).logits[0].numpy()
    del peer
    ours = logits_of(TorchRunner(checkpoint, num_blocks=40, dtype=torch.float32), ids)
    spread = float(expected.std())
    assert np.abs(ours - expected).max() <= 1e-3 * max(1.0, spread)
    assert (ours.argmax(1) == expected.argmax(1)).mean() >= 0.998
    kernels = logits_of(CompiledRunner(checkpoint, num_blocks=40), ids)
    assert (kernels.argmax(1) == expected.argmax(1)).mean() >= 0.95
    assert abs(nats(kernels, ids) - nats(expected, ids)) <= 0.03


def nats(logits: Logits, ids: Ids) -> float:
    """Mean negative log-likelihood of each token after the first."""
    wide = logits[:-1].astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    chosen = wide[np.arange(len(wide)), ids[1:]]
    return float((np.log(np.exp(wide).sum(1)) - chosen).mean())
