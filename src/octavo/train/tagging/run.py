"""A CKIP model's run from recipe to model: annotated sentences, a network or an encoder, the one trainer, the figure.

The finished model is opened as any other and measured on the held-out files.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from octavo.errors import UnsupportedError
from octavo.fetching.sources import resolve
from octavo.generate.ckip.characters import CharacterReader
from octavo.generate.ckip.encoders import CkipTransformer
from octavo.generate.ckip.recurrent import CkipTagger, RowReader
from octavo.models.checkpoint import Checkpoint, GenerationDefaults, open_checkpoint
from octavo.models.recurrent.tagger_files import save_tagger
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import HeadConfig
from octavo.text.tokenizer import Tokenizer
from octavo.text.wordpiece import NAMED, save_vocabulary
from octavo.train.data import Shuffled
from octavo.train.metrics import Event, Noted
from octavo.train.objectives.causal_lm import IGNORED
from octavo.train.objectives.token_labels import CharacterLabels, LabelledCharacters, LabelledTokens, TokenLabels
from octavo.train.run import Prepared, RunResult, run_training
from octavo.train.run_folder import RunFolder
from octavo.train.tagging.labelled import (
    ENCODER_FORM,
    TAGGER_FORM,
    character_labels,
    encoder_rows,
    labels_of,
    normal,
    tagger_tables,
)
from octavo.train.tagging.network import BiLstmTagger
from octavo.train.tagging.recipe import CkipRecipe
from octavo.train.tagging.scoring import score_model
from octavo.train.tagging.sentences import Annotated, Sentence, read_annotated
from octavo.train.trainer import Trainer
from octavo.writing import whole_folder

OnEvent = Callable[[Event], object]


def train_ckip(
    recipe: CkipRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: OnEvent = lambda event: None,
) -> RunResult:
    """Train as the recipe says on the files in `data`, in a run folder; resume what is there unless `restart`.

    Raises OctavoError for what recipe, files, folder or machine forbid.
    """
    read = read_annotated(data, recipe.data, recipe.model.task)
    prepare = _prepare_tagger if recipe.model.kind == "bilstm" else _prepare_encoder
    return run_training(
        recipe,
        read.sha256,
        folder,
        lambda run: prepare(recipe, read, run, on_event),
        restart=restart,
        on_event=on_event,
    )


def _prepare_tagger(recipe: CkipRecipe, read: Annotated, run: RunFolder, on_event: OnEvent) -> Prepared[Any]:
    training, validation = (tuple(map(normal, part)) for part in (read.training, read.validation))
    config, characters, words = tagger_tables(training, recipe.model.task, recipe.model)
    tables = [{text: row for row, text in enumerate(texts)} for texts in (characters, words)]
    reader, known = RowReader(config, *tables), {label: index for index, label in enumerate(config.labels)}

    def example(sentence: Sentence) -> LabelledCharacters:
        wanted = character_labels(sentence, recipe.model.task, TAGGER_FORM)
        units: Sequence[str] = list(sentence.text) if recipe.model.task == "ws" else sentence.words
        tags = [tag if tag in config.tags else "WHITESPACE" for tag in sentence.tags]  # of validation alone
        row = reader.row(units, tags if recipe.model.task == "ner" else ())
        return LabelledCharacters(row, [IGNORED if label is None else known.get(label, IGNORED) for label in wanted])

    model = BiLstmTagger(config, dropout=recipe.model.dropout, unknown=recipe.model.unknown, seed=recipe.training.seed)
    examples, held = ([example(sentence) for sentence in part] for part in (training, validation))

    def export(trainer: Trainer[Any]) -> None:
        save_tagger(run.model, config, trainer.best_parameters(), characters, words)
        if read.validation:
            _measure(CkipTagger.load(run.model, recipe.model.task), read.validation, on_event)

    return _prepared(recipe, model, CharacterLabels(), examples, held, export, on_event)


def _prepare_encoder(recipe: CkipRecipe, read: Annotated, run: RunFolder, on_event: OnEvent) -> Prepared[Any]:
    labels = labels_of(read.training, recipe.model.task, ENCODER_FORM)
    checkpoint = _open_encoder(recipe)
    tokenizer = _vocabulary(recipe, read.training, run) if checkpoint is None else checkpoint.tokenizer()
    model, family = _model(recipe, checkpoint, tokenizer, len(labels))
    reader = CharacterReader(tokenizer, model.config.context_length)
    examples, held = (
        [LabelledTokens(*row) for row in encoder_rows(part, recipe.model.task, labels, reader, IGNORED)]
        for part in (read.training, read.validation)
    )

    def export(trainer: Trainer[Any]) -> None:
        candidate = run.path / "candidate"
        save_checkpoint(candidate, model.config, family, trainer.best_parameters(), None, GenerationDefaults(()))
        save_vocabulary(tokenizer, candidate)
        path = candidate / "config.json"
        named = {"id2label": dict(enumerate(labels)), "label2id": {label: at for at, label in enumerate(labels)}}
        text = json.dumps({**json.loads(path.read_text(encoding="utf-8")), **named}, ensure_ascii=False, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(run.model, ignore_errors=True)
        candidate.rename(run.model)
        if read.validation:
            with CkipTransformer.load(str(run.model), recipe.model.task) as opened:
                _measure(opened, read.validation, on_event)

    return _prepared(recipe, model, TokenLabels(), examples, held, export, on_event)


def _prepared(
    recipe: CkipRecipe,
    model: torch.nn.Module,
    objective: Any,
    training: Sequence[Any],
    validation: Sequence[Any],
    export: Callable[[Trainer[Any]], None],
    on_event: OnEvent,
) -> Prepared[Any]:
    steps = len(training) / recipe.training.batch_size
    on_event(Noted(f"{len(training):,} sentences an epoch: {steps:.0f} steps"))
    held = sorted(validation, key=lambda example: len(example.labels))
    return Prepared(model, objective, Shuffled(training, recipe.training.seed), held, export)


def _measure(model: CkipTagger | CkipTransformer, sentences: Sequence[Sentence], on_event: OnEvent) -> None:
    on_event(Noted(f"on the held-out files: {score_model(model, sentences)}"))


def _open_encoder(recipe: CkipRecipe) -> Checkpoint | None:
    if recipe.model.init is None:
        return None
    checkpoint = open_checkpoint(resolve(recipe.model.init))
    if checkpoint.config.encoder is None:
        raise UnsupportedError(f"model.init {recipe.model.init} is a decoder; give an encoder", param="model.init")
    return checkpoint


def _vocabulary(recipe: CkipRecipe, sentences: Sequence[Sentence], run: RunFolder) -> Tokenizer:
    """A fresh encoder's: its special tokens, and each character that the sentences have often."""
    if not run.tokenizer.is_dir():
        counts = Counter(character for sentence in sentences for character in sentence.text)
        often = sorted(c for c, count in counts.items() if count >= recipe.model.occurrences and not c.isspace())
        special = [NAMED[role] for role in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")]
        settings = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
        with whole_folder(run.tokenizer) as partial:
            (partial / "vocab.txt").write_text("\n".join([*special, *often]) + "\n", encoding="utf-8")
            (partial / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
    return Tokenizer.from_folder(run.tokenizer)


def _model(
    recipe: CkipRecipe, checkpoint: Checkpoint | None, tokenizer: Tokenizer, labels: int
) -> tuple[Transformer, str]:
    """An encoder under a fresh head, and its family."""
    seed = recipe.training.seed
    if checkpoint is None:
        return Transformer(recipe.model.encoder(tokenizer.vocab_size, labels), seed=seed), "bert"
    encoder = checkpoint.config.encoder
    assert encoder is not None, "refused before"
    config = replace(checkpoint.config, encoder=replace(encoder, head=HeadConfig("tokens", labels)))
    model = Transformer(config, seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in checkpoint.tensors and not name.startswith("head."):
                parameter.copy_(torch.from_numpy(checkpoint.tensors[name].dequantize()))
    return model, checkpoint.family
