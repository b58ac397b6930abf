"""Runs of T5: pre-training by span corruption on a text, and fine-tuning on pairs, from fresh weights or a model's."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import processors

from octavo.errors import FormatError, OctavoError
from octavo.fetching.sources import resolve
from octavo.generate.encoder_decoder.torch_seq2seq import start_of
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.text.tokenizer import Tokenizer
from octavo.train.corpus import read_corpus
from octavo.train.data import Shuffled, Windows, all_windows
from octavo.train.metrics import Event
from octavo.train.objectives.span_corruption import SpanCorruption, window_length
from octavo.train.objectives.text_to_text import Pair, TextToText
from octavo.train.run import Prepared, RunResult, encode, run_training
from octavo.train.run_folder import RunFolder
from octavo.train.seq2seq.recipe import PairRecipe, Seq2SeqSettings, SpanRecipe
from octavo.train.trainer import Trainer

PAD, END, SENTINELS = "<pad>", "</s>", 100


@dataclass(frozen=True)
class Begun:
    """The model that a run begins with. start_id: what begins a target; end_id: what ends it."""

    model: Transformer
    tokenizer: Tokenizer
    family: str
    start_id: int
    end_id: int

    def sentinels(self) -> list[int]:
        """Ids of <extra_id_0>, <extra_id_1>, ..., as many as there are."""
        found = (self.tokenizer.token_id(f"<extra_id_{number}>") for number in range(SENTINELS))
        return [token for token in found if token is not None]


def train_span_corruption(
    recipe: SpanRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Pre-train on a text; resume what is there unless `restart`."""
    corpus = read_corpus(data, recipe.data)

    def prepare(run: RunFolder) -> Prepared[Any]:
        begun = _begin(recipe.model, run, corpus.training, recipe.training.seed)
        training, validation = (encode(p, begun.tokenizer, end=False) for p in (corpus.training, corpus.validation))
        size = window_length(recipe.model.source_tokens) - 1  # a window's tokens are its targets and one more
        objective = SpanCorruption(begun.start_id, begun.end_id, begun.sentinels(), recipe.training.seed)
        windows = Windows(training, size, recipe.training.seed)
        held = [window for window in all_windows(validation, size) if len(window) > 1]
        return _prepared(run, begun, objective, windows, held)

    return run_training(recipe, corpus.sha256, folder, prepare, restart=restart, on_event=on_event)


def train_text_to_text(
    recipe: PairRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Fine-tune, or train, on pairs; resume what is there unless `restart`."""
    texts, digest = read_pairs(data)
    kept = len(texts) - round(len(texts) * recipe.data.validation_fraction)

    def prepare(run: RunFolder) -> Prepared[Any]:
        begun = _begin(recipe.model, run, [part for pair in texts[:kept] for part in pair], recipe.training.seed)
        pairs = [_pair(begun, recipe.model, *pair) for pair in texts]
        source = Shuffled(pairs[:kept], recipe.training.seed)
        return _prepared(run, begun, TextToText(begun.start_id), source, pairs[kept:])

    return run_training(recipe, digest, folder, prepare, restart=restart, on_event=on_event)


def read_pairs(path: Path) -> tuple[list[tuple[str, str]], str]:
    """Sources and targets of JSON Lines, and the file's sha256.

    Raises OctavoError for a file that cannot be read, FormatError for a line that is no pair.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except OSError as error:
        raise OctavoError(f"{path} cannot be read: {error.strerror or error}", param="data.path") from None
    except (EOFError, UnicodeDecodeError, zlib.error) as error:
        raise FormatError(f"{path} is no UTF-8 text: {error}", param="data.path") from None
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
                pairs.append((str(row["source"]), str(row["target"])))
            except (ValueError, KeyError, TypeError):
                raise FormatError(f'{path}, line {number}: not {{"source": ..., "target": ...}}') from None
    if len(pairs) < 2:
        raise OctavoError(f"{path} has {len(pairs)} pairs, too few to train on", param="data.path")
    return pairs, hashlib.sha256(content).hexdigest()


def _begin(wanted: Seq2SeqSettings, run: RunFolder, texts: Iterable[str], seed: int) -> Begun:
    if wanted.init is not None:
        checkpoint = open_checkpoint(resolve(wanted.init))
        if checkpoint.config.memory is None:
            raise OctavoError(f"{wanted.init} is no encoder-decoder; give a T5", param="model.init")
        end_id = checkpoint.generation.eos_token_ids[0]
        model = Transformer.from_checkpoint(checkpoint)
        return Begun(model, checkpoint.tokenizer(), checkpoint.family, start_of(checkpoint), end_id)
    if not run.tokenizer.is_dir():
        special = (PAD, END, *(f"<extra_id_{number}>" for number in range(SENTINELS)))
        learnt = Tokenizer.train_bpe(texts, wanted.vocab_size, special)
        ending = [(END, learnt.backend.token_to_id(END))]
        learnt.backend.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=ending)
        Tokenizer(learnt.backend, named={"pad_token": PAD, "eos_token": END}).save(run.tokenizer)
    tokenizer = Tokenizer.from_folder(run.tokenizer)
    assert tokenizer.pad_id is not None and tokenizer.eos_id is not None, "both are made with it"
    model = Transformer(wanted.transformer(tokenizer.vocab_size), seed=seed)
    return Begun(model, tokenizer, "t5", tokenizer.pad_id, tokenizer.eos_id)


def _pair(begun: Begun, wanted: Seq2SeqSettings, source: str, target: str) -> Pair:
    """Both sides end with the end, as T5's do, whether or not the tokenizer's own rule adds it."""
    sides = []
    for text, longest in ((source, wanted.source_tokens), (target, wanted.target_tokens)):
        ids = begun.tokenizer.encode(text, special=False, bos=False)
        sides.append([*ids[: longest - 1], begun.end_id])
    return Pair(*sides)


def _prepared(run: RunFolder, begun: Begun, objective: Any, source: Any, validation: Sequence[Any]) -> Prepared[Any]:
    def export(trainer: Trainer[Any]) -> None:
        ends = GenerationDefaults((begun.end_id,))
        config = begun.model.config
        save_checkpoint(run.model, config, begun.family, trainer.best_parameters(), begun.tokenizer, ends)

    return Prepared(begun.model, objective, source, validation, export)
