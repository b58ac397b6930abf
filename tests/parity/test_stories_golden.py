"""stories260K, real trained weights with their tokenizer, against golden values of the peer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.runner import Row
from octavo.models.transformer import TorchRunner, Transformer


@pytest.fixture(scope="module")
def checkpoint(stories: Path) -> Checkpoint:
    return open_checkpoint(stories)


@pytest.fixture(scope="module")
def expected(stories: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((stories / "golden.json").read_text())
    return result


@pytest.mark.parametrize("index", range(5))
def test_greedy_text_of_every_prompt_is_golden(index: int, checkpoint: Checkpoint, expected: dict[str, Any]) -> None:
    case = expected["greedy"][index]
    ids: list[int] = list(case["prompt_ids"])
    assert checkpoint.tokenizer().encode(case["prompt"], bos=True) == ids
    runner = TorchRunner(checkpoint, num_blocks=32)
    begin = 0
    while len(ids) < len(case["prompt_ids"]) + len(case["new_ids"]):
        row = Row(np.array(ids[begin:], np.int32), begin, range(32), len(ids) - begin - 1)
        begin = len(ids)
        ids.append(int(runner.step([row]).logits[0].argmax()))
    assert ids[len(case["prompt_ids"]) :] == case["new_ids"]


def test_the_likeliest_tokens_after_an_opening_have_their_golden_logits(
    checkpoint: Checkpoint, expected: dict[str, Any]
) -> None:
    row = Row(np.array([1, 403, 407, 261, 378], np.int32), 0, [0], 4)
    logits = TorchRunner(checkpoint, num_blocks=1).step([row]).logits[0]
    top: NDArray[np.intp] = np.argsort(-logits)[:5]
    assert top.tolist() == [token for token, _, _ in expected["logits_after_once_upon_a_time"]]
    assert logits[top] == pytest.approx([value for *_, value in expected["logits_after_once_upon_a_time"]], abs=5e-4)


def test_perplexity_of_the_sample_is_golden_in_padded_batches(
    checkpoint: Checkpoint, expected: dict[str, Any], shared: Path
) -> None:
    model, tokenizer = Transformer.from_checkpoint(checkpoint), checkpoint.tokenizer()
    lines = (shared / "data/text/tinystories-valid-sample.txt").read_text().splitlines()
    texts = [tokenizer.encode(line, bos=True)[:512] for line in lines if line]
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(texts), 8):
            batch = [torch.tensor(ids) for ids in texts[start : start + 8]]
            tokens = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=0, padding_side="left")
            mask = torch.nn.utils.rnn.pad_sequence(
                [torch.ones(len(ids)) for ids in batch], batch_first=True, padding_side="left"
            )
            losses = functional.cross_entropy(model(tokens, mask)[:, :-1].mT, tokens[:, 1:], reduction="none")
            scored = mask[:, :-1].bool()
            total += float(losses[scored].double().sum())
            count += int(scored.sum())
    golden = expected["perplexity"]["tinystories-valid-sample"]
    assert count == golden["tokens"]
    assert total / count == pytest.approx(golden["nll"], abs=1e-4)
