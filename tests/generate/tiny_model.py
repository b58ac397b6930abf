"""A model of four tokens, small enough to say how likely each of its answers is."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import tokenizers

from octavo.generate.lm import Sampling
from octavo.generate.sample import probabilities
from octavo.models.runner import BLOCK_SIZE, Row, StepOutput
from octavo.text.tokenizer import Tokenizer

VOCAB = 4
LETTERS = tokenizers.Tokenizer(tokenizers.models.BPE({chr(65 + i): i for i in range(VOCAB)}, []))
LETTERS.decoder = tokenizers.decoders.Fuse()
TOKENIZER = Tokenizer(LETTERS, named={})


@functools.cache
def _normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=VOCAB)


class TinyRunner:
    """Four tokens, whose chances depend on all that lies in the KV blocks; `noise` makes another model of it."""

    name = "tiny"
    max_tokens = 256
    num_blocks = 300
    config: Any = SimpleNamespace(context_length=64)

    def __init__(self, noise: float = 0) -> None:
        self.noise = noise
        self.memory = np.full(self.num_blocks * BLOCK_SIZE, -1)

    def accept(self, row: Row, path: Sequence[int]) -> None:
        places = row.start + np.arange(len(row.tokens))
        slots = np.asarray(row.blocks)[places // BLOCK_SIZE] * BLOCK_SIZE + places % BLOCK_SIZE
        self.memory[slots[: len(path)]] = self.memory[slots[list(path)]]

    def logits(self, seen: np.ndarray) -> np.ndarray:
        state = int((np.arange(1, len(seen) + 1) * (seen + 7) ** 2).sum())
        return (_normal(state) + self.noise * _normal(state + 1)).astype(np.float32)

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        logits = []
        for row in rows:
            places = np.arange(row.start + len(row.tokens))
            slots = np.asarray(row.blocks)[places // BLOCK_SIZE] * BLOCK_SIZE + places % BLOCK_SIZE
            self.memory[slots[row.start :]] = row.tokens
            for last in range(row.logits_from, len(row.tokens)):
                path = row.start + np.array(path_of(row.parents, last))
                logits.append(self.logits(self.memory[slots[np.concatenate((places[: row.start], path))]]))
        return StepOutput(np.array(logits, np.float32).reshape(-1, VOCAB))

    def refresh(self) -> None: ...

    def close(self) -> None: ...


def path_of(parents: np.ndarray | None, at: int) -> list[int]:
    if parents is None:
        return list(range(at + 1))
    path = [at]
    while parents[path[-1]] >= 0:
        path.append(int(parents[path[-1]]))
    return path[::-1]


def chance_of(
    runner: TinyRunner, prompt: list[int], said: Sequence[int], sampling: Sampling, *, guided: bool = False
) -> float:
    chance, tokens = 1.0, list(prompt)
    for token in said:
        logits = runner.logits(np.array(tokens))
        for biased, by in sampling.logit_bias.items():
            logits[biased] += by
        if guided:
            logits[tokens[-1]] = -np.inf
        for old in set(tokens[len(prompt) :]):
            logits[old] -= sampling.presence_penalty
        chance *= float(probabilities(logits, sampling)[token])
        tokens.append(token)
    return chance
