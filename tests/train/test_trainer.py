"""Laws of the loop, on a tiny module: what is summed, clipped, decayed, refused, saved and resumed."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.train.data import Tokens, Windows, all_windows
from octavo.train.metrics import Event, Noted, Stepped, Validated
from octavo.train.objectives.causal_lm import CausalLM
from octavo.train.optimizer import adamw, trainable
from octavo.train.recipe import OptimizerSettings, ScheduleSettings, TrainingSettings
from octavo.train.trainer import Trainer, parts

VOCABULARY = 11


class Bigram(nn.Module):
    """Logits of the next token from this one; with dropout, so that the generator's state matters."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, VOCABULARY)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.dropout(self.norm(self.embed(tokens))))
        return logits


def ragged(seed: int = 0, documents: int = 6) -> list[Tokens]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY, rng.integers(2, 40)).astype(np.int32) for _ in range(documents)]


def trainer(
    folder: Path, *, dropout: float = 0.0, on_event: Callable[[Event], object] = lambda event: None, **training: Any
) -> Trainer[Tokens]:
    torch.manual_seed(5)
    chosen = {"steps": 20, "batch_size": 8, "log_every": 1, "validate_every": 5, "checkpoint_every": 5} | training
    return Trainer(
        Bigram(dropout),
        CausalLM(),
        Windows(ragged(), 9, seed=2),
        folder=folder,
        optimizer=OptimizerSettings(learning_rate=chosen.pop("learning_rate", 1e-2)),
        schedule=ScheduleSettings(warmup_steps=4),
        training=TrainingSettings(device="cpu", **chosen),
        validation=all_windows(ragged(1, 2), 9),
        on_event=on_event,
    )


def curve(run: Trainer[Tokens]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in run.log.rows()]


def weights(run: Trainer[Tokens]) -> dict[str, bytes]:
    return {name: parameter.detach().numpy().tobytes() for name, parameter in run.model.named_parameters()}


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=9),
    accumulation=st.integers(1, 9),
)
@settings(max_examples=25, deadline=None)
def test_ragged_parts_sum_to_the_gradient_of_the_mean_over_all_tokens(lengths: list[int], accumulation: int) -> None:
    rng = np.random.default_rng(sum(lengths))
    examples = [rng.integers(0, VOCABULARY, n).astype(np.int32) for n in lengths]
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(Path(folder))
    model, objective = run.model, run.objective
    # The oracle: every example alone, unpadded; the sum of all tokens' losses over their number.
    losses = [
        nn.functional.cross_entropy(
            model(torch.from_numpy(e[:-1]).long()), torch.from_numpy(e[1:]).long(), reduction="sum"
        )
        for e in examples
        if len(e) > 1
    ]
    count = sum(n - 1 for n in lengths)
    expected = sum(losses, torch.zeros(())) / max(count, 1)
    grads = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True) if losses else []
    loss = run.accumulate([objective.collate(part) for part in parts(examples, accumulation)])
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    for parameter, grad in zip(model.parameters(), grads, strict=False):
        torch.testing.assert_close(parameter.grad, grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("accumulation", [2, 3, 4, 8])
def test_accumulation_does_not_change_the_curve(tmp_path: Path, accumulation: int) -> None:
    whole, cut = trainer(tmp_path / "1"), trainer(tmp_path / "n", accumulation=accumulation)
    whole.fit()
    cut.fit()
    for one, other in zip(curve(whole), curve(cut), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert other[name] == pytest.approx(one[name], rel=1e-4), name


def test_a_step_without_targets_gives_zero_and_not_nan(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    batch = run.objective.collate([np.array([3], np.int32)])
    assert run.accumulate([batch]) == 0.0
    assert run.evaluate([]) == 0.0


def test_stopping_at_any_step_and_resuming_is_bit_equal_to_going_on(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", dropout=0.3)
    whole.fit()
    for stop_at in (1, 5, 13, 19):
        folder = tmp_path / f"cut{stop_at}"
        first = trainer(folder, dropout=0.3)
        assert first.fit(lambda run=first, at=stop_at: run.step >= at).step == stop_at  # type: ignore[misc]
        torch.rand(7)  # what happens to the generator in between must not matter
        second = trainer(folder, dropout=0.3)
        assert second.step == stop_at
        outcome = second.fit()
        assert outcome.finished
        assert curve(second) == curve(whole)
        assert weights(second) == weights(whole)
        assert {n: a.tobytes() for n, a in second.best_parameters().items()} == {
            n: a.tobytes() for n, a in whole.best_parameters().items()
        }


def test_lines_after_the_checkpoint_are_cut_when_a_killed_run_resumes(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.fit()

    def die(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 8:
            raise KeyboardInterrupt  # nothing in the trainer catches it: as good as a kill

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "killed", on_event=die).fit()
    resumed = trainer(tmp_path / "killed")
    assert resumed.step == 5
    assert [row["step"] for row in resumed.log.rows()][-1] == 5
    resumed.fit()
    assert curve(resumed) == curve(whole)


def test_a_damaged_newest_checkpoint_is_told_and_the_run_goes_on_from_the_one_before(tmp_path: Path) -> None:
    whole = trainer(tmp_path)
    whole.fit()
    final = weights(whole)
    path = whole.snapshots.path(20)
    path.write_bytes(path.read_bytes()[:-100])
    events: list[Event] = []
    resumed = trainer(tmp_path, on_event=events.append)
    assert resumed.step == 15
    assert any(isinstance(event, Noted) and str(path) in event.text for event in events)
    resumed.fit()
    assert weights(resumed) == final
    for step in whole.snapshots.steps():
        whole.snapshots.path(step).write_bytes(b"nothing")
    with pytest.raises(FormatError, match="begin anew with --restart"):
        trainer(tmp_path)


def test_the_best_validation_is_kept_and_not_the_last(tmp_path: Path) -> None:
    events: list[Event] = []
    run = trainer(tmp_path, steps=60, learning_rate=0.1, on_event=events.append)  # random text: it soon overfits
    outcome = run.fit()
    validations = {event.step: event.validation_loss for event in events if isinstance(event, Validated)}
    assert outcome.best_validation_loss == min(validations.values()) < validations[60]
    assert outcome.best_step == min(validations, key=lambda step: validations[step])
    model = Bigram()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in run.best_parameters().items()})
    run.model = model
    assert run.evaluate(run.validation) == outcome.best_validation_loss


def test_a_loss_that_is_no_number_stops_with_the_step_and_leaves_the_weights(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(lambda: run.step == 7)
    before = weights(run)
    honest = run.objective.loss
    run.objective.loss = lambda model, batch: honest(model, batch) * math.nan  # type: ignore[method-assign]
    with pytest.raises(OctavoError, match=r"loss of step 8 is nan .*lower optimizer\.learning_rate.* step 7 is intact"):
        run.fit()
    assert weights(run) == before
    assert all(math.isfinite(row.get("loss", 0.0)) for row in run.log.rows())


def test_the_gradient_is_clipped_as_a_whole_and_logged_before(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.settings = OptimizerSettings(clip_norm=0.01)
    event = run._advance()
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in run.parameters.values() if p.grad is not None))
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert event.grad_norm > 0.01


def test_only_matrices_decay_and_decay_is_decoupled() -> None:
    model = Bigram()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = adamw(trainable(model), OptimizerSettings(learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if parameter.ndim >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_frozen_parameters_are_neither_trained_nor_saved(tmp_path: Path) -> None:
    model = Bigram()
    model.embed.requires_grad_(False)
    assert "embed.weight" not in trainable(model)
    model.head.to(torch.bfloat16)
    with pytest.raises(UnsupportedError, match=r"head\.\w+ is torch\.bfloat16; weights are trained in float32"):
        trainable(model)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).fit(lambda: True)
    run = trainer(tmp_path)
    run.fit(lambda: run.step == 1)
    with pytest.raises(FormatError, match="another model"):
        Trainer(
            nn.Linear(3, 3),
            run.objective,
            run.source,
            folder=tmp_path,
            optimizer=run.settings,
            schedule=run.schedule,
            training=run.training,
        )


def test_a_gpu_that_is_not_there_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnsupportedError, match=r"training\.device is 'cuda', but torch finds no GPU"):
        Trainer(
            Bigram(),
            CausalLM(),
            Windows(ragged(), 9, 0),
            folder=tmp_path,
            optimizer=OptimizerSettings(),
            schedule=ScheduleSettings(),
            training=TrainingSettings(device="cuda"),
        )


def test_bf16_products_train_fp32_weights_to_about_the_same_loss(tmp_path: Path) -> None:
    try:
        half = trainer(tmp_path / "half", precision="bf16")
    except UnsupportedError as error:
        pytest.skip(str(error))
    full = trainer(tmp_path / "full")
    half.fit()
    full.fit()
    losses = [[row["loss"] for row in curve(run) if "loss" in row] for run in (half, full)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in half.model.parameters())
