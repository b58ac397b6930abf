"""Guesses of a smaller model with the same vocabulary, drawn as the request draws, so that most of them stand.

It reads each text into KV memory of its own; of a guess that did not stand, what was computed is written over. Unusual:
a part of the guesses stands beside the chain, second choices where the first was least sure (a tree). They cost the
smaller model nothing, for they come from distributions that it has made for the chain.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from octavo.generate.blocks import BlockPool
from octavo.generate.lm import Sampling
from octavo.generate.propose import NO_DRAFT, Draft, Text
from octavo.generate.sample import probabilities
from octavo.generate.sample.draw import draw_weighted
from octavo.models.runner import BLOCK_SIZE, Row, Runner

SIDE = 3
"""Of so many guesses one is a second choice."""
GREEDY = Sampling()
"""Whose chances say how sure the likeliest token is."""
Chances = NDArray[np.float64]


@dataclass(eq=False, slots=True)
class _Read:
    """What the runner's memory holds of one text."""

    tokens: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)


class DraftModelProposer:
    """Implements `Proposer` on a runner it owns. Its own random numbers decide what is tried, never what is said."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._pool = BlockPool(runner.num_blocks)
        self._read: dict[Hashable, _Read] = {}
        self._random = np.random.default_rng(0)

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        """Step by step, all texts together. One that is not yet read to its end, or finds no memory, gets no draft."""
        ready = [index for index, text in enumerate(texts) if text.most > 0 and self._has_room(text)]
        chains: list[list[tuple[int, Chances]]] = [[] for _ in texts]
        while ready:
            following = [[*texts[index].tokens, *(token for token, _ in chains[index])] for index in ready]
            logits = self._step([texts[index].key for index in ready], following)
            going = []
            for index, row in zip(ready, logits, strict=True):
                if row is not None:
                    text, chain = texts[index], chains[index]
                    chances = _chances(row, text.sampling)
                    chain.append((self._guess(chances, text.sampling), chances))
                    if len(chain) < text.most - text.most // SIDE:
                        going.append(index)
            ready = going
        return [self._tree(text, chain) for text, chain in zip(texts, chains, strict=True)]

    def _tree(self, text: Text, chain: Sequence[tuple[int, Chances]]) -> Draft:
        """The chain, and second choices where it is least sure."""
        if not chain:
            return NO_DRAFT
        tokens = [token for token, _ in chain]
        drawn = [chances for _, chances in chain]
        parents = list(range(-1, len(chain) - 1))
        unsure = sorted(range(len(chain)), key=lambda at: float(drawn[at][tokens[at]]))
        for at in unsure[: text.most - len(chain)]:
            rest = drawn[at].copy()
            rest[tokens[at]] = 0
            if total := rest.sum():
                drawn.append(rest / total)
                tokens.append(self._guess(drawn[-1], text.sampling))
                parents.append(at - 1)
        whole = None if len(tokens) == len(chain) else tuple(parents)
        return Draft(tuple(tokens), np.stack(drawn) if text.sampling.temperature else None, whole)

    def forget(self, key: Hashable) -> None:
        """Free the memory of a text."""
        read = self._read.pop(key, None)
        if read is not None:
            self._pool.release(read.blocks)

    def refresh(self) -> None:
        """Take over weights that changed."""
        for key in list(self._read):
            self.forget(key)
        self._runner.refresh()

    def close(self) -> None:
        """Close the runner."""
        self._runner.close()

    def check(self) -> None:
        """Assert that no block is lost."""
        self._pool.check([read.blocks for read in self._read.values()])

    def _has_room(self, text: Text) -> bool:
        """Get the blocks for a text and its guesses."""
        end = len(text.tokens) + text.most
        if end > self._runner.config.context_length:
            return False
        read = self._read.setdefault(text.key, _Read())
        missing = -(-end // BLOCK_SIZE) - len(read.blocks)
        if missing > self._pool.available:
            return False
        read.blocks += self._pool.allocate(max(0, missing))
        return True

    def _step(self, keys: Sequence[Hashable], texts: Sequence[list[int]]) -> list[NDArray[np.float32] | None]:
        """Read on; (vocab_size,) logits after each text's end, or None for one that is longer than this step holds."""
        budget = self._runner.max_tokens
        rows, complete = [], []
        for place, (key, tokens) in enumerate(zip(keys, texts, strict=True)):
            read = self._read[key]
            known = _common(read.tokens, tokens[:-1])
            count = min(len(tokens) - known, budget - (len(keys) - place - 1))
            budget -= count
            del read.tokens[known:]
            read.tokens += tokens[known : known + count]
            whole = len(read.tokens) == len(tokens)
            rows.append(Row(np.asarray(read.tokens[known:], np.int32), known, read.blocks, count - whole))
            complete.append(whole)
        logits = iter(self._runner.step(rows).logits)
        return [next(logits) if whole else None for whole in complete]

    def _guess(self, chances: Chances, sampling: Sampling) -> int:
        return draw_weighted(chances, self._random) if sampling.temperature else int(chances.argmax())


def _chances(logits: NDArray[np.float32], sampling: Sampling) -> Chances:
    """Of each token, (vocab_size,): those that it is drawn with, or, where the likeliest is taken, the model's own."""
    return probabilities(logits, sampling if sampling.temperature else GREEDY)


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    shorter = min(len(first), len(second))
    if first[:shorter] == second[:shorter]:
        return shorter
    return next(at for at in range(shorter) if first[at] != second[at])
