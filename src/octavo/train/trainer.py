"""The one training loop: accumulate, clip, step, log, validate, checkpoint, resume.

Unusual: a step's gradient is divided by the target count of the whole step, counted before the first backward pass, so
that cutting it into parts changes nothing; and a resumed run is bit-equal to an uninterrupted one (on the CPU).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from octavo.errors import FormatError, OctavoError
from octavo.train.data import DataSource
from octavo.train.device import choose_device, random_states, restore_random_states
from octavo.train.metrics import Event, MetricsLog, Noted, Saved, Stepped, Validated
from octavo.train.objectives.objective import Batch, Objective
from octavo.train.optimizer import adamw, moments, restore_moments, restore_parameters, trainable
from octavo.train.recipe import OptimizerSettings, ScheduleSettings, TrainingSettings
from octavo.train.schedule import learning_rate
from octavo.train.snapshots import Snapshot, Snapshots, read, write

Example = TypeVar("Example")
VALIDATION_TOKENS = 8192
"""About how many targets one validation batch holds."""


@dataclass(frozen=True)
class Outcome:
    """Where `fit` ended. finished: the last step was done; otherwise it was asked to stop."""

    step: int
    finished: bool
    best_step: int | None
    best_validation_loss: float | None


class Trainer(Generic[Example]):
    """Trains a module by an objective on a source's examples, in a folder that holds its checkpoints and curve.

    A folder with checkpoints is resumed from the newest that can be read; model, source and settings must be those it
    was begun with. Only parameters that want gradients are trained and saved. rate_scale: what the learning rate is
    multiplied by for a parameter, by its name.
    Raises UnsupportedError for a device or precision that this machine lacks.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Example],
        source: DataSource[Example],
        *,
        folder: Path,
        optimizer: OptimizerSettings,
        schedule: ScheduleSettings,
        training: TrainingSettings,
        validation: Sequence[Example] = (),
        rate_scale: Callable[[str], float] = lambda name: 1.0,
        on_event: Callable[[Event], object] = lambda event: None,
    ) -> None:
        self.device = choose_device(training)
        self.model = model.to(self.device)
        self.objective, self.source, self.validation = objective, source, validation
        self.settings, self.training, self.schedule = optimizer, training, schedule
        self._on_event = on_event
        self.parameters = trainable(self.model)
        self.optimizer = adamw(self.parameters, optimizer, rate_scale)
        self.step, self.tokens = 0, 0
        self._pace = _Pace()
        self.snapshots = Snapshots(folder / "checkpoints")
        self.log = MetricsLog(folder / "metrics.jsonl")
        self.best_step: int | None = None
        self.best_validation_loss: float | None = None
        self._resume()

    def fit(self, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Train to the last step, or until `stop()`, asked after each step, says so; a checkpoint is left either way.

        Raises OctavoError when loss or gradient is no longer a finite number; the weights are then those before it.
        """
        total = self.training.steps
        while self.step < total and not stop():
            event = self._advance()
            self._on_event(event)
            last = self.step == total
            if last or self.step % self.training.log_every == 0:
                self.log.append(event)
                self._pace = _Pace()
            if self.validation and (last or self.step % self.training.validate_every == 0):
                self._validate()
            if last or stop() or self.step % self.training.checkpoint_every == 0:
                self._save()
        return Outcome(self.step, self.step == total, self.best_step, self.best_validation_loss)

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Example]) -> float:
        """Mean loss a target over all the examples, in the model's evaluation mode. No targets: 0."""
        was_training = self.model.training
        self.model.eval()
        total, count, position = 0.0, 0, 0
        rows = max(1, VALIDATION_TOKENS // max(self.objective.collate(examples[:1]).count, 1)) if examples else 1
        while position < len(examples):
            batch = self.objective.collate(examples[position : position + rows]).to(self.device)
            with self._autocast():
                total += self.objective.loss(self.model, batch).item()
            count += batch.count
            position += rows
        self.model.train(was_training)
        return total / max(count, 1)

    def accumulate(self, batches: Sequence[Batch]) -> float:
        """Add the gradient of the mean loss over all targets of all batches; returns that mean."""
        count = max(sum(batch.count for batch in batches), 1)
        mean = 0.0
        for batch in batches:
            with self._autocast():
                loss = self.objective.loss(self.model, batch.to(self.device)) / count
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            mean += loss.item()
        return mean

    def best_parameters(self) -> dict[str, NDArray[np.float32]]:
        """Trained parameters of the best validation, or of now where nothing was validated."""
        if self.best_step is not None:
            return read(self.snapshots.best).group("model")
        return self._arrays()

    def _advance(self) -> Stepped:
        began = time.perf_counter()
        self.model.train()
        examples = self.source.draw(self.training.batch_size, self.model)
        batches = [self.objective.collate(part) for part in parts(examples, self.training.accumulation)]
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.accumulate(batches)
        limit = self.settings.clip_norm or math.inf
        norm = float(nn.utils.clip_grad_norm_(list(self.parameters.values()), limit))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._diverged(loss, norm)
        rate = learning_rate(
            self.step + 1, peak=self.settings.learning_rate, total=self.training.steps, schedule=self.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.step()
        self.step += 1
        targets = sum(batch.count for batch in batches)
        self.tokens += targets
        self._pace.add(targets, time.perf_counter() - began)
        return Stepped(self.step, loss, rate, norm, self.tokens, self._pace.tokens_per_second)

    def _validate(self) -> None:
        loss = self.evaluate(self.validation)
        best = self.best_validation_loss is None or loss < self.best_validation_loss
        if best:
            self.best_step, self.best_validation_loss = self.step, loss
            facts = {"step": self.step, "validation_loss": loss}
            write(self.snapshots.best, Snapshot(prefixed("model", self._arrays()), facts))
        event = Validated(self.step, loss, best)
        self.log.append(event)
        self._on_event(event)

    def _save(self) -> None:
        arrays = {
            **prefixed("model", self._arrays()),
            **prefixed("optimizer", moments(self.optimizer, self.parameters)),
            **prefixed("random", random_states()),
        }
        facts = {"step": self.step, "tokens": self.tokens, "source": self.source.state()}
        self._on_event(Saved(self.step, self.snapshots.save(Snapshot(arrays, facts))))

    def _resume(self) -> None:
        damaged: list[Path] = []
        for path, found in self.snapshots.readable():
            if isinstance(found, Snapshot):
                self._restore(found)
                break
            damaged.append(path)
            self._on_event(Noted(str(found)))
        if damaged and not self.step:
            raise FormatError(f"no checkpoint in {self.snapshots.folder} can be read; begin anew with --restart")
        for path in damaged:
            path.unlink()
        self.log.cut_after(self.step)
        if self.snapshots.best.exists():
            facts = read(self.snapshots.best).facts
            self.best_step, self.best_validation_loss = int(facts["step"]), float(facts["validation_loss"])

    def _restore(self, snapshot: Snapshot) -> None:
        restore_parameters(self.parameters, snapshot.group("model"))
        restore_moments(self.optimizer, self.parameters, snapshot.group("optimizer"))
        self.source.restore(snapshot.facts["source"])
        self.step, self.tokens = snapshot.step, int(snapshot.facts["tokens"])
        restore_random_states(snapshot.group("random"))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: parameter.detach().cpu().numpy() for name, parameter in self.parameters.items()}

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.training.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _diverged(self, loss: float, norm: float) -> OctavoError:
        last = self.snapshots.steps()[-1:]
        kept = f"; the checkpoint of step {last[0]} is intact" if last else ""
        return OctavoError(
            f"the loss of step {self.step + 1} is {loss:g} and its gradient norm {norm:g}: training has diverged; "
            "lower optimizer.learning_rate or lengthen schedule.warmup_steps, and begin anew with --restart" + kept
        )


class _Pace:
    """Targets a second since it was made, over the time that was added."""

    def __init__(self) -> None:
        self._tokens, self._seconds = 0, 0.0

    def add(self, tokens: int, seconds: float) -> None:
        self._tokens += tokens
        self._seconds += seconds

    @property
    def tokens_per_second(self) -> float:
        return round(self._tokens / max(self._seconds, 1e-9), 1)


def parts(examples: Sequence[Example], count: int) -> list[Sequence[Example]]:
    """The examples in `count` parts of nearly equal size, in order; fewer parts where there are fewer examples."""
    count = min(count, max(len(examples), 1))
    edges = [len(examples) * part // count for part in range(count + 1)]
    return [examples[start:end] for start, end in pairwise(edges)]


def prefixed(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays under `prefix/`."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}
