"""The `Proposer` seam: guesses at the next tokens, which one step of the model then checks all at once.

Speculative decoding (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318) changes no answer's
distribution: a guess stands only if the model, with the request's own sampling, chooses the same token. Two proposers:
`ngram.py` copies from the text itself, `draft.py` asks a smaller model.
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

    sampling: how its tokens are chosen.
    """

    key: Hashable
    tokens: Sequence[int]
    most: int
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Draft:
    """Guesses at the tokens that follow a text, one after another.

    probabilities: (len(tokens), vocab_size), of which each was drawn, or None where they were chosen and not drawn.
    """

    tokens: tuple[int, ...] = ()
    probabilities: NDArray[np.float64] | None = None

    def first(self, count: int) -> Draft:
        """The first `count` guesses."""
        return self if count >= len(self.tokens) else Draft(self.tokens[:count], self.probabilities)


NO_DRAFT = Draft()


class Proposer(Protocol):
    """Guesses for many texts at once. Not thread-safe."""

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        """A draft for each text, of at most `most` tokens; it may be empty."""
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
