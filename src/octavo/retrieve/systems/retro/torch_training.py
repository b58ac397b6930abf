"""Runs of RETRO: from a trained decoder and a text to a decoder that retrieves, its database, and what both are worth.

The loss is reported by how much of a chunk stands word for word in its neighbours, as the paper does: what is copied
flatters it. The same texts are scored with each other's neighbours, and by the decoder alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from octavo.errors import FormatError, OctavoError
from octavo.fetching.sources import resolve
from octavo.generate.embed import Embedder
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.formats.safetensors import read_safetensors, write_safetensors
from octavo.models.saving import save_checkpoint
from octavo.models.torch_tensors import from_torch, to_torch
from octavo.models.transformer import Transformer
from octavo.progress import track
from octavo.retrieve.systems.recipes import RetroRecipe
from octavo.retrieve.systems.retro.database import (
    CHUNK,
    ChunkEncoder,
    Database,
    build_database,
    cut_documents,
    longest_shared,
    make_keys,
    vocabulary_of,
)
from octavo.retrieve.systems.retro.torch_retro import (
    Ids,
    Retrieved,
    Retro,
    RetroObjective,
    generate,
    with_random_neighbours,
)
from octavo.text.tokenizer import Tokenizer
from octavo.train.corpus import read_corpus
from octavo.train.data import Shuffled
from octavo.train.metrics import Event, Noted
from octavo.train.run import Prepared, RunResult, encode, run_training
from octavo.train.run_folder import RunFolder
from octavo.train.trainer import Trainer
from octavo.writing import whole_folder

SYSTEM, LEARNT, DATABASE, BASE = "system.json", "retro.safetensors", "database.npz", "base"
OVERLAPS = (0.125, 0.25, 0.5, 1.0)
"""Upper ends of the report's buckets: the longest shared run of a chunk and its neighbours, over the chunk."""
ROWS = 16


def train_retro(
    recipe: RetroRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Put retrieval into a trained decoder and train that alone; resume what is there unless `restart`."""
    corpus = read_corpus(data, recipe.data)

    def prepare(run: RunFolder) -> Prepared[Retrieved]:
        wanted = recipe.retro
        checkpoint = open_checkpoint(resolve(wanted.decoder))
        tokenizer = checkpoint.tokenizer()
        training, validation = (encode(part, tokenizer, end=False) for part in (corpus.training, corpus.validation))
        with Embedder.load(wanted.encoder) as encoder:
            database = _database(run.path / DATABASE, training, tokenizer, encoder, wanted.encoder)
            size = wanted.chunks * CHUNK
            examples = with_neighbours(training, database, database.keys, wanted.neighbours, size, own=True)
            keys = keys_of(validation, tokenizer, encoder)
            held = with_neighbours(validation, database, keys, wanted.neighbours, size)
        on_event(Noted(f"{len(database):,} chunks in the database, {len(examples):,} texts to train on"))
        layers = wanted.layers or default_layers(checkpoint.config.num_layers)
        model = Retro(
            Transformer.from_checkpoint(checkpoint),
            layers=layers,
            encoder_layers=wanted.encoder_layers,
            seed=recipe.training.seed,
        )
        facts = {"layers": list(layers), "encoder_layers": wanted.encoder_layers, "neighbours": wanted.neighbours}
        return Prepared(
            model,
            RetroObjective(),
            Shuffled(examples, recipe.training.seed),
            held,
            lambda trainer: _export(trainer, checkpoint, run, {**facts, "chunks": wanted.chunks}),
        )

    return run_training(recipe, corpus.sha256, folder, prepare, restart=restart, on_event=on_event)


def default_layers(count: int) -> tuple[int, ...]:
    """Every third block from the sixth on, as the paper has it; of a decoder of fewer, the last two thirds' middle."""
    return tuple(range(5, count, 3)) or (count // 2,)


def keys_of(documents: Sequence[Ids], tokenizer: Tokenizer, encoder: ChunkEncoder) -> np.ndarray[Any, Any]:
    """(chunks, dimensions) of documents that are not in a database."""
    starts, _ = cut_documents(documents)
    tokens = np.concatenate([*documents, np.zeros(0, np.int32)])
    chunks = [tokens[start:end] for start, end in pairwise(starts)]
    return make_keys(chunks, tokenizer, encoder, "Making keys of texts") if chunks else np.zeros((0, 1), np.float32)


def with_neighbours(
    documents: Sequence[Ids],
    database: Database,
    keys: np.ndarray[Any, Any],
    count: int,
    size: int,
    *,
    own: bool = False,
) -> list[Retrieved]:
    """Documents in texts of at most `size` targets, each whole chunk with its neighbours.

    keys: of all chunks of the documents. own: the documents are the database's, by number, and a chunk's own document
    is left out.
    """
    _, owners = cut_documents(documents)
    found = database.nearest(keys, count, owners if own else np.full(len(owners), -1)) if len(owners) else owners
    examples, first = [], 0
    for document in documents:
        for start in range(0, len(document) - 1, size):
            tokens = document[start : start + size + 1]
            whole = (len(tokens) - 1) // CHUNK
            chunks = found[first + start // CHUNK : first + start // CHUNK + whole]
            examples.append(Retrieved(tokens, [[database.neighbour(int(c)) for c in row if c >= 0] for row in chunks]))
        first += -(-len(document) // CHUNK)
    return examples


@dataclass(frozen=True)
class Bucket:
    """Mean nats a target in chunks whose longest shared run is at most `overlap` of them, and over the bucket before's.

    decoder: without retrieval. retrieved: with the neighbours that were found. random: with other texts' neighbours.
    """

    overlap: float
    targets: int
    decoder: float
    retrieved: float
    random: float


@torch.inference_mode()
def report(model: Retro, examples: Sequence[Retrieved]) -> list[Bucket]:
    """The loss by overlap; the last bucket, of overlap infinity, is all targets together."""
    plain = [Retrieved(example.tokens, []) for example in examples]
    shared = with_random_neighbours(examples)
    rows: list[tuple[float, ...]] = []
    with track(len(examples), "Scoring", unit="texts") as work:
        for start in range(0, len(examples), ROWS):
            part = slice(start, start + ROWS)
            losses = [_losses(model, texts[part]) for texts in (plain, examples, shared)]
            for at, example in enumerate(examples[part]):
                for place in range(len(example.tokens) - 1):
                    chunk = (place + 1) // CHUNK  # of the target
                    rows.append((_overlap(example, chunk), *(float(loss[at, place]) for loss in losses)))
            work.advance(len(examples[part]))
    table = np.array(rows)
    buckets, below = [], -1.0
    for overlap in (*OVERLAPS, np.inf):
        inside = (table[:, 0] > below) & (table[:, 0] <= overlap) if np.isfinite(overlap) else np.ones(len(table), bool)
        below = overlap
        if inside.any():
            buckets.append(Bucket(float(overlap), int(inside.sum()), *table[inside, 1:].mean(0).tolist()))
    return buckets


def _losses(model: Retro, examples: Sequence[Retrieved]) -> torch.Tensor:
    objective = RetroObjective()
    return objective.losses(model, objective.collate(examples))


def _overlap(example: Retrieved, chunk: int) -> float:
    """Of a chunk with its own neighbours; one that is not whole was not searched for, and has none."""
    if chunk >= len(example.neighbours):
        return 0.0
    tokens = example.tokens[chunk * CHUNK : (chunk + 1) * CHUNK]
    return max((longest_shared(tokens, found) for found in example.neighbours[chunk]), default=0) / CHUNK


def _database(path: Path, documents: Sequence[Ids], tokenizer: Tokenizer, encoder: Embedder, name: str) -> Database:
    if path.exists():
        return Database.load(path)
    database = build_database(documents, tokenizer, encoder, name)
    database.save(path)
    return database


def _export(trainer: Trainer[Retrieved], base: Checkpoint, run: RunFolder, facts: Mapping[str, Any]) -> None:
    learnt = {name: from_torch(torch.from_numpy(array)) for name, array in trainer.best_parameters().items()}
    with whole_folder(run.model) as partial:
        save_checkpoint(partial / BASE, base.config, base.family, base.tensors, base.tokenizer(), base.generation)
        write_safetensors(partial / LEARNT, learnt)
        shutil.copyfile(run.path / DATABASE, partial / DATABASE)
        (partial / SYSTEM).write_text(json.dumps({"system": "retro", **facts}, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class RetroSystem:
    """A run's model, ready. end_ids: of the decoder."""

    model: Retro
    tokenizer: Tokenizer
    database: Database
    neighbours: int
    chunks: int
    end_ids: tuple[int, ...]

    @staticmethod
    def load(folder: Path, database: Path | None = None) -> RetroSystem:
        """database: in place of the run's own. Raises FormatError for another folder, OctavoError for one of others."""
        try:
            facts = json.loads((folder / SYSTEM).read_text(encoding="utf-8"))
            assert facts["system"] == "retro"
            layers, encoder_layers = facts["layers"], facts["encoder_layers"]
        except (OSError, ValueError, KeyError, AssertionError):
            raise FormatError(f"{folder} holds no RETRO model; give the model/ folder of such a run") from None
        checkpoint = open_checkpoint(folder / BASE)
        model = Retro(Transformer.from_checkpoint(checkpoint), layers=layers, encoder_layers=encoder_layers)
        entries = read_safetensors(folder / LEARNT)
        with torch.no_grad():
            for name, parameter in model.learnt().items():
                parameter.copy_(to_torch(entries[name].read()))
        tokenizer = checkpoint.tokenizer()
        found = Database.load(database or folder / DATABASE)
        if found.origin.tokenizer != vocabulary_of(tokenizer):
            raise OctavoError(f"{database} is of another vocabulary than the decoder's; build it with --model {folder}")
        model.requires_grad_(False).eval()
        ends = checkpoint.generation.eos_token_ids
        return RetroSystem(model, tokenizer, found, facts["neighbours"], facts["chunks"], ends)

    def texts(self, documents: Sequence[str]) -> list[Retrieved]:
        """Documents that are not in the database, with their neighbours."""
        ids = encode(documents, self.tokenizer, end=False)
        with Embedder.load(self.database.origin.encoder) as encoder:
            keys = keys_of(ids, self.tokenizer, encoder)
        return with_neighbours(ids, self.database, keys, self.neighbours, self.chunks * CHUNK)


def write(
    system: RetroSystem,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    told: Callable[[list[str]], object] = lambda neighbours: None,
) -> Iterator[str]:
    """A text that goes on from a prompt, piece by piece. told: of the texts that were retrieved for each chunk."""
    tokenizer = system.tokenizer
    with Embedder.load(system.database.origin.encoder) as encoder:

        def find(chunk: Ids) -> list[Ids]:
            key = encoder.embed([tokenizer.decode(chunk.tolist())])
            places = system.database.nearest(key, system.neighbours, np.array([-1]))[0]
            found = [system.database.neighbour(int(place)) for place in places if place >= 0]
            told([tokenizer.decode(ids.tolist()) for ids in found])
            return found

        detokenizer = tokenizer.detokenizer()
        ids = tokenizer.encode(prompt)
        for token in generate(
            system.model, ids, find, max_tokens=max_tokens, end_ids=system.end_ids, temperature=temperature, seed=seed
        ):
            yield detokenizer.push(token)
        yield detokenizer.flush()
