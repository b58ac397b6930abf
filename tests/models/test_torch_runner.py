"""The torch runner's laws: a row's result does not depend on its neighbours, its blocks or how it was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octavo.errors import ContextLengthError
from octavo.models.runner import BLOCK_SIZE, Row
from octavo.models.transformer import TorchRunner, Transformer
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig

BOUND = 1e-5
CONFIG = TransformerConfig(
    vocab_size=60,
    hidden_size=32,
    num_layers=2,
    context_length=96,
    norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(4, 2, 8),
    mlp=MlpConfig(48, "silu", gated=True),
    rope=RopeConfig(1e4, 8),
    tie_embeddings=True,
)


def loud_model() -> Transformer:
    model = Transformer(CONFIG).requires_grad_(False)
    for index, parameter in enumerate(model.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        parameter.copy_(noise / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 1 + 0.2 * noise)
    return model


MODEL = loud_model()


def sequence(seed: int, length: int) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, 60, length).astype(np.int32)


def whole(tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = MODEL(torch.from_numpy(tokens.astype(np.int64))[None])[0].numpy()
    return logits


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rows_of_any_lengths_cut_anyhow_in_any_blocks_equal_the_full_forward(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    sequences = [sequence(index, data.draw(st.integers(1, 40))) for index in range(count)]
    free = data.draw(st.permutations(range(16)))
    owned = [free[3 * index : 3 * index + 3] for index in range(count)]
    runner = TorchRunner(MODEL, num_blocks=16)
    done = [0] * count
    got: list[list[NDArray[np.float32]]] = [[] for _ in sequences]
    while any(place < len(tokens) for place, tokens in zip(done, sequences, strict=True)):
        active = [index for index in range(count) if done[index] < len(sequences[index])]
        chosen = data.draw(st.lists(st.sampled_from(active), min_size=1, unique=True))
        sizes = {index: data.draw(st.integers(1, len(sequences[index]) - done[index])) for index in chosen}
        rows = [Row(sequences[i][done[i] : done[i] + sizes[i]], done[i], owned[i], 0) for i in chosen]
        parts = np.split(runner.step(rows).logits, np.cumsum(list(sizes.values()))[:-1])
        for index, part in zip(chosen, parts, strict=True):
            got[index].append(part)
            done[index] += sizes[index]
    for tokens, parts in zip(sequences, got, strict=True):
        assert np.abs(np.concatenate(parts) - whole(tokens)).max() <= BOUND


def test_logits_come_for_the_wanted_positions_in_row_order_with_hidden_states_when_asked() -> None:
    runner = TorchRunner(MODEL, num_blocks=8)
    a, b, c = sequence(1, 10), sequence(2, 5), sequence(3, 4)
    rows = [Row(a, 0, [0], 9), Row(b, 0, [1], 5), Row(c, 0, [2], 1)]
    output = runner.step(rows, hidden=True)
    expected = np.concatenate([whole(a)[9:], whole(c)[1:]])
    assert output.logits.dtype == np.float32
    assert np.abs(output.logits - expected).max() <= BOUND
    assert output.hidden is not None and output.hidden.shape == (4, 32)
    assert np.abs(output.hidden @ MODEL.embed_tokens.weight.numpy().T - expected).max() <= BOUND
    assert runner.step([Row(a, 0, [0], 10)]).logits.shape == (0, 60)
    assert runner.step([Row(a, 0, [0], 9)]).hidden is None


def test_a_row_never_reads_what_another_left_in_its_blocks() -> None:
    runner = TorchRunner(MODEL, num_blocks=2)
    runner.step([Row(sequence(9, 30), 0, [1, 0], 29)])
    again = runner.step([Row(sequence(4, 20), 0, [0, 1], 0)]).logits
    assert np.abs(again - whole(sequence(4, 20))).max() <= BOUND


def test_the_live_module_is_run_with_its_present_weights() -> None:
    model = loud_model()
    runner = TorchRunner(model, num_blocks=1)
    row = Row(sequence(1, 5), 0, [0], 4)
    before = runner.step([row]).logits
    model.norm.weight.mul_(2)
    runner.refresh()
    assert np.allclose(runner.step([row]).logits, 2 * before, rtol=1e-5)


def test_a_live_module_in_training_keeps_its_gradients() -> None:
    model = Transformer(CONFIG)
    TorchRunner(model, num_blocks=1).step([Row(sequence(1, 5), 0, [0], 4)])
    model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    assert model.norm.weight.grad is not None


def test_closing_frees_the_memory_and_may_be_repeated() -> None:
    runner = TorchRunner(MODEL, num_blocks=4)
    assert runner.num_blocks * BLOCK_SIZE == 64 and runner.name == "torch cpu"
    runner.close()
    runner.close()
    assert runner._memory.keys.numel() == 0


def test_more_tokens_than_the_context_are_refused() -> None:
    with pytest.raises(ContextLengthError, match=r"97 tokens .* context of 96"):
        MODEL(torch.zeros(1, 97, dtype=torch.long))


def test_the_real_model_gives_its_golden_logits_and_greedy_ids(smollm2: Path, golden: dict[str, Any]) -> None:
    from octavo.models.checkpoint import open_checkpoint

    runner = TorchRunner(open_checkpoint(smollm2), num_blocks=12)
    for case in golden["greedy"].values():
        tokens = np.array(case["prompt_ids"], np.int32)
        start = 0
        for step, (expected, gap) in enumerate(zip(case["new_ids_40_no_stop"], case["gaps"], strict=True)):
            logits = runner.step([Row(tokens, start, range(12), len(tokens) - 1)]).logits[0]
            if step == 0:
                check_top(logits, case["first_step_top5"])
                assert np.logaddexp.reduce(logits.astype(np.float64)) == pytest.approx(
                    case["first_step_logsumexp"], abs=5e-4
                )
            if step > case["first_eos_index"] and (gap <= 0.05 or step > 12):
                break
            assert int(logits.argmax()) == expected, f"step {step}"
            start += len(tokens)
            tokens = np.array([expected], np.int32)
    text = golden["perplexity"]
    tokens = np.array(text["ids"], np.int32)
    logits = runner.step([Row(tokens, 0, range(12), 0)]).logits[:-1].astype(np.float64)
    losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(tokens) - 1), tokens[1:]]
    assert losses.mean() == pytest.approx(2.923675, abs=1e-3)


def check_top(logits: NDArray[np.float32], expected: list[list[float]]) -> None:
    top = np.argsort(-logits)[:5]
    assert top.tolist() == [token for token, _ in expected]
    assert logits[top] == pytest.approx([value for _, value in expected], abs=5e-4)
