"""The `Proposer` seam: guesses at the next tokens, which one step of the model then checks all at once.

Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318) changes no answer's
distribution: a guess stands only if the model, with the request's own sampling, chooses the same token. Guesses are a
chain, or a tree of several at one place (Miao et al. 2023, arXiv 2305.09781). Three proposers: `ngram.py` copies from
the text itself, `draft.py` asks a smaller model, `prediction.py` copies from what a request says of its answer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.generate.lm import Sampling


@dataclass(frozen=True, slots=True)
class Text:
    """What to guess at. key: stands for the text from call to call; it only grows. most: guesses that are wanted.

    sampling: how its tokens are chosen. prediction: what, from token number `begun` on, it is said to become.
    """

    key: Hashable
    tokens: Sequence[int]
    most: int
    sampling: Sampling
    prediction: Sequence[int] = ()
    begun: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """Guesses at the tokens that follow a text.

    probabilities: (len(tokens), vocab_size), of which each was drawn (in a tree: after those before it that follow the
    same had been refused), or None where they were chosen and not drawn. parents: None, a chain: each guess follows the
    one before it; of a tree, the index of the guess that each one follows, which is before it, -1 for the text itself.
    """

    tokens: tuple[int, ...] = ()
    probabilities: NDArray[np.float64] | None = None
    parents: tuple[int, ...] | None = None

    def first(self, count: int) -> Draft:
        """The first `count` guesses."""
        if count >= len(self.tokens):
            return self
        return Draft(self.tokens[:count], self.probabilities, self.parents and self.parents[:count])

    def after(self, at: int) -> list[int]:
        """The guesses that follow guess `at`, or the text where it is -1."""
        if self.parents is None:
            return [at + 1] if at + 1 < len(self.tokens) else []
        return [index for index, parent in enumerate(self.parents) if parent == at]

    @property
    def depth(self) -> int:
        """How many guesses one after another there are at most."""
        if self.parents is None:
            return len(self.tokens)
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent < 0 else depths[parent] + 1)
        return max(depths, default=0)


NO_DRAFT = Draft()


class Proposer(Protocol):
    """Guesses for many texts at once. Not thread-safe."""

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        """A draft for each text, of at most `most` tokens, a chain or a tree; it may be empty."""
        ...

    def forget(self, key: Hashable) -> None:
        """The text of this key has ended, or is set aside. A key that is not known is no error."""
        ...

    def refresh(self) -> None:
        """The weights have changed."""
        ...

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        ...
