"""Runs of RAG and Fusion-in-Decoder: from a recipe, questions and an encoder to a folder that answers.

The index is made once by the encoder as it was, and stays; the question encoder begins as that encoder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from octavo.fetching.sources import resolve
from octavo.generate.embed import Embedder
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer
from octavo.progress import track
from octavo.retrieve.systems.passages import Passage, QuestionSet, Vectors, read_question_set
from octavo.retrieve.systems.recipes import FidRecipe, QuestionRecipe, RagRecipe
from octavo.retrieve.systems.torch_asking import Asking, AskingSettings, save_asking
from octavo.retrieve.systems.torch_fid import FidObjective
from octavo.retrieve.systems.torch_generator import Generator
from octavo.retrieve.systems.torch_question_encoder import QuestionEncoder
from octavo.retrieve.systems.torch_rag import RagObjective
from octavo.text.tokenizer import Tokenizer
from octavo.train.data import Shuffled
from octavo.train.metrics import Event, Noted
from octavo.train.objectives.objective import Objective
from octavo.train.run import Prepared, RunResult, run_training
from octavo.train.run_folder import RunFolder
from octavo.train.trainer import Trainer
from octavo.writing import whole_file

PAD, END = "<pad>", "</s>"
EMBEDDED_AT_ONCE = 64


def train_rag(
    recipe: RagRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Train a question encoder and a generator together on questions; resume what is there unless `restart`."""
    own = recipe.rag
    settings = replace(_settings(recipe, "rag"), marginal=own.marginal, beams=own.beams, decoding=own.decoding)
    return _train(recipe, data, folder, settings, RagObjective, restart=restart, on_event=on_event)


def train_fid(
    recipe: FidRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Train a reader on questions, and with `distil` the question encoder on what it reads; resume as `train_rag`."""
    settings = replace(_settings(recipe, "fid"), distil=recipe.fid.distil, beams=recipe.fid.beams)
    return _train(recipe, data, folder, settings, FidObjective, restart=restart, on_event=on_event)


def _train(
    recipe: QuestionRecipe,
    data: Path,
    folder: Path,
    settings: AskingSettings,
    objective: Callable[[Asking, QuestionSet], Objective[int]],
    *,
    restart: bool,
    on_event: Callable[[Event], object],
) -> RunResult:
    questions = read_question_set(data, words=recipe.data.passage_words, held_out=recipe.data.held_out)

    def prepare(run: RunFolder) -> Prepared[int]:
        on_event(Noted(_told(questions)))
        model, family = make_asking(recipe, questions, run, settings)
        return Prepared(
            model,
            objective(model, questions),
            Shuffled(range(len(questions.training)), recipe.training.seed),
            range(len(questions.training), len(questions.training) + len(questions.held_out)),
            lambda trainer: _export(trainer, model, run, family),
            lambda name: recipe.retriever.rate_scale if name.startswith("question_encoder.") else 1.0,
        )

    return run_training(recipe, checksum(data), folder, prepare, restart=restart, on_event=on_event)


def make_asking(
    recipe: QuestionRecipe, questions: QuestionSet, run: RunFolder, settings: AskingSettings
) -> tuple[Asking, str]:
    """The model that a run begins with, and the family of its generator."""
    encoder = resolve(recipe.retriever.encoder)
    vectors = _index(run.path / "index.npz", recipe.retriever.encoder, questions.passages)
    generator, family = _generator(recipe, questions.passages, run)
    question_encoder = QuestionEncoder.load(encoder)
    question_encoder.requires_grad_(recipe.retriever.rate_scale > 0 and (settings.system == "rag" or settings.distil))
    return Asking(question_encoder, generator, questions.passages, vectors, settings), family


def _index(path: Path, encoder: str, passages: Sequence[Passage]) -> Vectors:
    """The passages' vectors, made once a run."""
    digest = hashlib.sha256(json.dumps([[p.title, p.text] for p in passages]).encode()).hexdigest()
    if path.exists():
        with np.load(path, allow_pickle=False) as kept:
            if str(kept["digest"]) == digest + encoder:
                return np.asarray(kept["vectors"], dtype=np.float32)
    texts = [f"{passage.title}\n{passage.text}" for passage in passages]
    parts = []
    with Embedder.load(encoder) as embedder, track(len(texts), "Embedding passages", unit="passages") as work:
        for start in range(0, len(texts), EMBEDDED_AT_ONCE):
            part = texts[start : start + EMBEDDED_AT_ONCE]
            parts.append(embedder.embed(part, kind="passage"))
            work.advance(len(part))
    vectors = np.concatenate(parts)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, vectors=vectors, digest=np.array(digest + encoder))
    return vectors


def _generator(recipe: QuestionRecipe, passages: Sequence[Passage], run: RunFolder) -> tuple[Generator, str]:
    wanted = recipe.generator
    if wanted.model is not None:
        path = resolve(wanted.model)
        return Generator.load(path), open_checkpoint(path).family
    if run.tokenizer.is_dir():
        tokenizer = Tokenizer.from_folder(run.tokenizer)
    else:
        tokenizer = fresh_tokenizer([f"{p.title} {p.text}" for p in passages], wanted.vocab_size)
        tokenizer.save(run.tokenizer)
    assert tokenizer.pad_id is not None and tokenizer.eos_id is not None, "both are made with it"
    model = Transformer(wanted.transformer(tokenizer.vocab_size), seed=recipe.training.seed)
    return Generator(model, tokenizer, tokenizer.pad_id, [tokenizer.eos_id]), "t5"


def fresh_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE with T5's two special tokens; the first, the padding, begins answers."""
    learnt = Tokenizer.train_bpe(texts, vocab_size, (PAD, END))
    return Tokenizer(learnt.backend, named={"pad_token": PAD, "eos_token": END})


def _settings(recipe: QuestionRecipe, system: Literal["rag", "fid"]) -> AskingSettings:
    generator, data = recipe.generator, recipe.data
    return AskingSettings(
        system=system,
        passages=recipe.retriever.passages,
        source_tokens=generator.source_tokens,
        answer_tokens=generator.answer_tokens,
        held_out=data.held_out,
        passage_words=data.passage_words,
    )


def _export(trainer: Trainer[int], model: Asking, run: RunFolder, family: str) -> None:
    best = trainer.best_parameters()
    own = model.state_dict(keep_vars=True)
    for name, array in best.items():
        own[name].data.copy_(own[name].new_tensor(array))
    save_asking(run.model, model, family)


def checksum(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _told(questions: QuestionSet) -> str:
    return (
        f"{len(questions.passages):,} passages, {len(questions.training):,} questions to train on and "
        f"{len(questions.held_out):,} held out"
    )
