"""A run from recipe to model: tokenizer, data, weights, the trainer, and the exported Hugging Face folder.

Source of the method: nanoGPT's character recipe (Karpathy, MIT) on a LLaMA shape (Touvron et al. 2023).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from octavo import settings
from octavo.errors import OctavoError
from octavo.models.checkpoint import GenerationDefaults
from octavo.models.memory import free_memory
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import TransformerConfig
from octavo.nn.shapes import parameter_shapes
from octavo.text.tokenizer import Tokenizer
from octavo.train.corpus import Corpus, read_corpus
from octavo.train.data import DataSource, Tokens, Windows, all_windows
from octavo.train.interrupt import StopRequest
from octavo.train.metrics import Event, Noted
from octavo.train.objectives.causal_lm import CausalLM
from octavo.train.objectives.objective import Objective
from octavo.train.recipe import AnyRecipe, Recipe
from octavo.train.run_folder import RunFolder
from octavo.train.trainer import Trainer
from octavo.writing import whole_folder

Example = TypeVar("Example")
DEFAULT_BPE_SIZE = 4096


@dataclass(frozen=True)
class RunResult:
    """How a run stands. model: the exported folder, of a model or an adapter; None when it was stopped before the end.

    validation_loss: nats a token at best_step, the step whose weights are exported (None: without validation data, the
    last step's weights). stopped_by: number of the signal that asked to stop. seconds: of this process.
    """

    run: Path
    model: Path | None
    parameters: int
    step: int
    steps: int
    resumed_from: int | None
    best_step: int | None
    validation_loss: float | None
    stopped_by: int | None
    seconds: float


def train_recipe(
    recipe: Recipe,
    text: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Train as the recipe says on the text file, in a run folder; resume what is there unless `restart`.

    Sets torch's threads and its global seed. Raises OctavoError for what the recipe, text, folder or machine forbid.
    """
    corpus = read_corpus(text, recipe.data)

    def prepare(run: RunFolder) -> Prepared[Tokens]:
        if recipe.model.init is not None:
            from octavo.train.tuning.run import prepare_tuning  # which needs this module

            return prepare_tuning(recipe, recipe.model.init, corpus, run)
        tokenizer = _tokenizer(recipe, corpus, run, on_event)
        config, stops = recipe.model.transformer(tokenizer.vocab_size), recipe.data.document_separator is not None
        _check_memory(config)
        context, seed = config.context_length, recipe.training.seed
        return Prepared(
            Transformer(config, seed=seed),
            CausalLM(),
            Windows(encode(corpus.training, tokenizer, end=stops), context, seed),
            all_windows(encode(corpus.validation, tokenizer, end=stops), context),
            lambda trainer: _export(trainer, config, tokenizer, run, stops=stops),
        )

    return run_training(recipe, corpus.sha256, folder, prepare, restart=restart, on_event=on_event)


@dataclass(frozen=True)
class Prepared(Generic[Example]):
    """What a run trains, as `Trainer` takes it; export: writes the run's model once it has finished, to `result` (None:
    the run's `model`)."""

    model: nn.Module
    objective: Objective[Example]
    source: DataSource[Example]
    validation: Sequence[Example]
    export: Callable[[Trainer[Example]], None]
    rate_scale: Callable[[str], float] = lambda name: 1.0
    result: Path | None = None


def run_training(
    recipe: AnyRecipe,
    data_sha256: str,
    folder: Path,
    prepare: Callable[[RunFolder], Prepared[Example]],
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Hold the run's folder, prepare, train or resume, and export at the end; of any objective.

    Sets torch's threads and its global seed before `prepare` is called.
    """
    began = time.perf_counter()
    run = RunFolder(folder)
    with _told(folder), run.opened(recipe, data_sha256, restart=restart), StopRequest() as stop:
        torch.set_num_threads(recipe.training.threads or settings.threads())
        torch.manual_seed(recipe.training.seed)
        prepared = prepare(run)
        trainer = Trainer(
            prepared.model,
            prepared.objective,
            prepared.source,
            folder=run.path,
            optimizer=recipe.optimizer,
            schedule=recipe.schedule,
            training=recipe.training,
            validation=prepared.validation,
            rate_scale=prepared.rate_scale,
            on_event=on_event,
        )
        resumed_from = trainer.step or None
        _announce(trainer, resumed_from, on_event)
        outcome = trainer.fit(stop)
        result = prepared.result or run.model
        if outcome.finished and not (resumed_from == outcome.step and result.is_dir()):
            prepared.export(trainer)
        return RunResult(
            run=folder,
            model=result if outcome.finished else None,
            parameters=sum(parameter.numel() for parameter in trainer.parameters.values()),
            step=outcome.step,
            steps=recipe.training.steps,
            resumed_from=resumed_from,
            best_step=outcome.best_step,
            validation_loss=outcome.best_validation_loss,
            stopped_by=None if outcome.finished else stop.signal_number,
            seconds=round(time.perf_counter() - began, 1),
        )


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """A disk that refuses is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise OctavoError(
            f"the run folder {folder} cannot be written ({error.strerror or error}); mend that, and the same command "
            "goes on from the last checkpoint"
        ) from error


def _tokenizer(recipe: Recipe, corpus: Corpus, run: RunFolder, on_event: Callable[[Event], object]) -> Tokenizer:
    if run.tokenizer.is_dir():
        return Tokenizer.from_folder(run.tokenizer)
    if recipe.tokenizer.kind == "characters":
        tokenizer = Tokenizer.train_characters(corpus.characters)
    else:
        tokenizer = Tokenizer.train_bpe(corpus.training, recipe.tokenizer.vocab_size or DEFAULT_BPE_SIZE)
    with whole_folder(run.tokenizer) as partial:
        tokenizer.save(partial)
    on_event(Noted(f"trained a tokenizer of {tokenizer.vocab_size} tokens ({recipe.tokenizer.kind})"))
    return tokenizer


def encode(documents: Sequence[str], tokenizer: Tokenizer, *, end: bool) -> list[Tokens]:
    """Token ids of each document; `end` adds the tokenizer's end-of-text token, where it has one, to each."""
    ending = [tokenizer.eos_id] if end and tokenizer.eos_id is not None else []
    ids = (tokenizer.encode(document, special=False, bos=False) + ending for document in documents)
    return [np.array(document, np.int32) for document in ids]


def _check_memory(config: TransformerConfig) -> None:
    """Refuse what cannot fit: weights, gradients and AdamW's two moments, in float32. Activations come on top."""
    needed = 16 * sum(math.prod(shape) for shape in parameter_shapes(config).values())
    free = free_memory()
    if free is not None and needed > free:
        raise OctavoError(
            f"training this model needs {needed / 1e9:.1f} GB at least and {free / 1e9:.1f} GB are free; "
            "make num_layers, hidden_size or the vocabulary smaller",
            param="model",
        )


def _announce(trainer: Trainer[Any], resumed_from: int | None, on_event: Callable[[Event], object]) -> None:
    if resumed_from == trainer.training.steps:
        on_event(Noted(f"this run is finished (step {resumed_from}); --restart trains anew"))
        return
    if resumed_from:
        on_event(Noted(f"resuming at step {resumed_from}; --restart begins anew"))
    if trainer.schedule.warmup_steps > trainer.training.steps:
        on_event(Noted("schedule.warmup_steps is over training.steps: the learning rate never reaches its peak"))
    size = sum(parameter.numel() for parameter in trainer.parameters.values())
    on_event(Noted(f"training {size:,} parameters for {trainer.training.steps} steps on {trainer.device}"))


def _export(
    trainer: Trainer[Tokens], config: TransformerConfig, tokenizer: Tokenizer, run: RunFolder, *, stops: bool
) -> None:
    eos = (tokenizer.eos_id,) if stops and tokenizer.eos_id is not None else ()
    save_checkpoint(run.model, config, "llama", trainer.best_parameters(), tokenizer, GenerationDefaults(eos))
