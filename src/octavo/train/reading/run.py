"""A reader's run from recipe to model: an encoder, questions, the one trainer, and the folder that a `Reader` opens.

The threshold of having no answer is chosen on the held-out articles, which are never trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from octavo.errors import OctavoError, UnsupportedError
from octavo.fetching.sources import resolve
from octavo.generate.tasks.evidence import features, fit, log_odds
from octavo.generate.tasks.reading import SETTINGS_NAME, Reader, ReaderSettings, Reading, matches
from octavo.metrics.answers import AnswerScores, best_threshold, score_answers, token_f1
from octavo.models.checkpoint import Checkpoint, GenerationDefaults, open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import HeadConfig, TransformerConfig
from octavo.text.tokenizer import Tokenizer
from octavo.text.windows import MATCHING_TYPES, PairReader
from octavo.text.wordpiece import save_vocabulary
from octavo.train.metrics import Event, Noted
from octavo.train.objectives.extractive_qa import DistilledQA, ExtractiveQA, Marked
from octavo.train.reading.growing import GrownEmbedding, with_characters
from octavo.train.reading.questions import Files, Question, read_files
from octavo.train.reading.recipe import ReaderRecipe
from octavo.train.reading.source import QuestionSource, marked_windows
from octavo.train.run import Prepared, RunResult, run_training
from octavo.train.run_folder import RunFolder
from octavo.train.trainer import Trainer

EMBEDDINGS, TYPES = "embed_tokens", "embed_types.weight"


def train_reader(
    recipe: ReaderRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Train as the recipe says on the files in `data`, in a run folder; resume what is there unless `restart`.

    Raises OctavoError for what recipe, files, folder or machine forbid.
    """
    files = read_files(data, recipe.data)

    def prepare(run: RunFolder) -> Prepared[Marked]:
        checkpoint = open_encoder(recipe.model.init)
        tokenizer, more = checkpoint.tokenizer(), 0
        if recipe.model.new_characters:
            tokenizer, more = with_characters(tokenizer, files.texts, recipe.model.new_characters)
        model = make_model(checkpoint, more, recipe)
        source, validation = _windows(recipe, files, tokenizer, model.config)
        on_event(Noted(f"{len(source):,} windows an epoch: {len(source) / recipe.training.batch_size:.0f} steps"))
        return Prepared(
            model,
            _objective(recipe, tokenizer, matches(model.config)),
            source,
            validation,
            lambda trainer: _export(trainer, tokenizer, run, recipe, files, on_event),
        )

    return run_training(recipe, files.sha256, folder, prepare, restart=restart, on_event=on_event)


def _objective(recipe: ReaderRecipe, tokenizer: Tokenizer, matching: bool) -> ExtractiveQA:
    """What is learnt. Raises UnsupportedError for teachers that are no readers, read other tokens or are too few."""
    teachers = [open_checkpoint(resolve(name)) for name in recipe.distillation.teachers]
    for name, teacher in zip(recipe.distillation.teachers, teachers, strict=True):
        if teacher.config.head is None or teacher.config.head.task != "span":
            raise UnsupportedError(f"the teacher {name} does not mark answers", param="distillation.teachers")
        alike = teacher.tokenizer().backend.get_vocab() == tokenizer.backend.get_vocab()
        if not alike or matches(teacher.config) != matching:
            raise UnsupportedError(
                f"the teacher {name} reads other tokens than the reader to be trained; give both the same data.files, "
                "model.new_characters and model.matches",
                param="distillation.teachers",
            )
    if not teachers:
        return ExtractiveQA()
    if len(teachers) % recipe.data.parts:
        raise UnsupportedError(
            f"{len(teachers)} teachers do not judge {recipe.data.parts} parts alike; give as many for each",
            param="distillation.teachers",
        )
    return DistilledQA([Transformer.from_checkpoint(teacher) for teacher in teachers], recipe.data.parts)


def open_encoder(reference: str) -> Checkpoint:
    """The encoder to begin with. Raises UnsupportedError for a decoder."""
    checkpoint = open_checkpoint(resolve(reference))
    if checkpoint.config.encoder is None:
        raise UnsupportedError(
            f"model.init {reference} is a decoder; a reader is made of an encoder", param="model.init"
        )
    return checkpoint


def make_model(checkpoint: Checkpoint, more: int, recipe: ReaderRecipe) -> Transformer:
    """The encoder's weights under a head that marks answers, its own where it has one; `more` new tokens."""
    config, encoder = checkpoint.config, checkpoint.config.encoder
    assert encoder is not None, "refused before"
    if config.head is None or config.head.task != "span":
        config = replace(config, encoder=replace(encoder, head=HeadConfig("span", 2)))
    types = max(encoder.token_types, MATCHING_TYPES) if recipe.model.matches else encoder.token_types
    assert config.encoder is not None, "an encoder still"
    model = Transformer(replace(config, encoder=replace(config.encoder, token_types=types)), seed=recipe.training.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in checkpoint.tensors:
                values = torch.from_numpy(checkpoint.tensors[name].dequantize())
                if name == TYPES:  # new types begin as the old ones, which they are kinds of
                    values = values[torch.arange(types) % encoder.token_types]
                parameter.copy_(values)
    model.embed_tokens.weight.requires_grad_(recipe.model.train_embeddings)
    if more:
        model.embed_tokens = GrownEmbedding(model.embed_tokens.weight, more, recipe.training.seed)  # type: ignore[assignment]
    return model


def _windows(
    recipe: ReaderRecipe, files: Files, tokenizer: Tokenizer, config: TransformerConfig
) -> tuple[QuestionSource, list[Marked]]:
    """What is trained on, and what is held out, by length."""
    pairs, windows = PairReader(tokenizer, matches=matches(config)), recipe.windows
    if windows.max_tokens > config.context_length:
        raise OctavoError(
            f"windows.max_tokens {windows.max_tokens} is over the encoder's {config.context_length} positions",
            param="windows.max_tokens",
        )
    mask_id = tokenizer.token_id(tokenizer.named.get("mask_token", "[MASK]"))
    source = QuestionSource(
        files.training,
        pairs,
        max_tokens=windows.max_tokens,
        rows=recipe.training.batch_size,
        seed=recipe.training.seed,
        mixture=recipe.mixture,
        taught=recipe.distillation,
        parts=recipe.data.parts,
        mask_id=mask_id or 0,
        texts=files.texts,
    )
    validation = [
        window
        for question in files.validation
        for window in marked_windows(pairs, question, windows.max_tokens, windows.overlap)
    ]
    return source, sorted(validation, key=lambda window: len(window.ids))


def _export(
    trainer: Trainer[Marked],
    tokenizer: Tokenizer,
    run: RunFolder,
    recipe: ReaderRecipe,
    files: Files,
    on_event: Callable[[Event], object],
) -> None:
    model = trainer.model
    assert isinstance(model, Transformer)
    config, tensors = whole(model, trainer.best_parameters())
    candidate = run.path / "candidate"
    int8 = recipe.model.weights == "int8"
    save_checkpoint(candidate, config, "bert", tensors, None, GenerationDefaults(()), int8=int8)
    save_vocabulary(tokenizer, candidate)
    reading = ReaderSettings(min(ReaderSettings.max_tokens, config.context_length), recipe.windows.overlap)
    if files.validation:
        with Reader.load(candidate, weights=recipe.model.weights) as reader:
            readings = read_all(reader, files.validation)
        reading = replace(reading, weights=weighed(files.validation, readings))
        readings = judged(files.validation, readings, reading.weights)
        reading = replace(reading, threshold=threshold(files.validation, readings))
        scores = scored(files.validation, readings, reading.threshold)
        on_event(Noted(f"on the held-out articles: {described(scores)}"))
    (candidate / SETTINGS_NAME).write_text(json.dumps(asdict(reading), indent=2) + "\n", encoding="utf-8")
    candidate.rename(run.model)


def whole(
    model: Transformer, trained: Mapping[str, NDArray[np.float32]]
) -> tuple[TransformerConfig, dict[str, NDArray[np.float32]]]:
    """The model's config and all its tensors, trained or not; a grown table of embeddings as one."""
    tensors = {name: parameter.detach().cpu().numpy() for name, parameter in model.named_parameters()}
    tensors.update(trained)
    new = tensors.pop(f"{EMBEDDINGS}.new", None)
    if new is not None:
        tensors[f"{EMBEDDINGS}.weight"] = np.concatenate((tensors[f"{EMBEDDINGS}.weight"], new))
    return replace(model.config, vocab_size=len(tensors[f"{EMBEDDINGS}.weight"])), tensors


def read_all(reader: Reader, questions: Sequence[Question]) -> dict[str, Reading]:
    """What a reader makes of each question's own text, by the question's id."""
    return {question.id: reader.read(question.text, [question.context])[0] for question in questions}


def weighed(questions: Sequence[Question], readings: Mapping[str, Reading]) -> tuple[float, ...]:
    """What the evidence against an answer weighs on these questions; nothing where they all have one, or none has."""
    lacking = [not question.golds for question in questions]
    return fit(evidence(questions, readings), lacking) if len(set(lacking)) == 2 else ()


def judged(
    questions: Sequence[Question], readings: Mapping[str, Reading], weights: Sequence[float]
) -> dict[str, Reading]:
    """The readings with the evidence weighed."""
    if not weights:
        return dict(readings)
    rows = evidence(questions, readings)
    return {
        question.id: replace(readings[question.id], no_answer_score=log_odds(weights, row))
        for question, row in zip(questions, rows, strict=True)
    }


def evidence(questions: Sequence[Question], readings: Mapping[str, Reading]) -> list[list[float]]:
    """The features of each question's reading."""
    pairs = [(question, readings[question.id]) for question in questions]
    return [features(asked.text, asked.context, read.start, read.end, read.margin) for asked, read in pairs]


def threshold(questions: Sequence[Question], readings: Mapping[str, Reading]) -> float:
    """The greatest `no_answer_score` with which it is best to answer, by mean F1 over questions that may have none."""
    golds = {question.id: [text for _, text in question.golds] for question in questions}
    answers = texts(questions, readings, math.inf)
    f1 = {name: token_f1(answers[name], gold) for name, gold in golds.items()}
    return best_threshold(f1, {name: reading.no_answer_score for name, reading in readings.items()}, golds)[1]


def scored(questions: Sequence[Question], readings: Mapping[str, Reading], at: float) -> AnswerScores:
    """SQuAD's measures of the readings, answers held back where no answer is likelier by more than `at`."""
    golds = {question.id: [text for _, text in question.golds] for question in questions}
    return score_answers(texts(questions, readings, at), golds)


def texts(questions: Sequence[Question], readings: Mapping[str, Reading], at: float) -> dict[str, str]:
    """Each question's answer, empty where it is held back."""
    found = {}
    for question in questions:
        reading = readings[question.id]
        answered = reading.no_answer_score <= at
        found[question.id] = question.context[reading.start : reading.end] if answered else ""
    return found


def described(scores: AnswerScores) -> str:
    """A line of figures, those of both kinds of questions apart."""
    has = "none" if scores.has_answer_f1 is None else f"{scores.has_answer_f1:.2f}"
    no = "none" if scores.no_answer is None else f"{scores.no_answer:.2f}"
    return f"F1 {scores.f1:.2f}, exact {scores.exact:.2f} (with an answer: F1 {has}; without: {no})"
