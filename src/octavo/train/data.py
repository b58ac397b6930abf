"""Where examples come from: the `DataSource` seam, and windows over tokenised documents.

Unusual: the order is a pure function of (seed, epoch), so that two numbers resume it exactly; and a window never spans
two documents, so that no mask is needed between them. Every epoch, each token but a document's first is a target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, OctavoError

Tokens = NDArray[np.int32]
Example = TypeVar("Example")
Example_co = TypeVar("Example_co", covariant=True)


class DataSource(Protocol[Example_co]):
    """Gives a step's examples. It may generate them (rollouts, re-retrieval) with the model as it is now."""

    def draw(self, count: int, model: Any) -> Sequence[Example_co]:
        """The next `count` examples. Called once a step, between optimizer steps."""
        ...

    def state(self) -> dict[str, Any]:
        """Where the source stands, as JSON."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state` was taken; draws then repeat exactly."""
        ...


class Windows:
    """Pieces of documents, at most `context_length` targets each, in a new cut and a new order every epoch.

    documents: token ids (n,) int32 each; those under two tokens hold no target and are left out. An example is (m + 1,)
    int32: m inputs and their m targets overlap by m - 1. Documents longer than a window are cut at a random phase.
    """

    def __init__(self, documents: Sequence[Tokens], context_length: int, seed: int) -> None:
        kept = [document for document in documents if len(document) > 1]
        if not kept:
            raise OctavoError("the training text holds no two tokens in a row; give a longer one")
        self._tokens = np.concatenate(kept)
        self._lengths = np.array([len(document) for document in kept], np.int64)
        self._context_length, self._seed = context_length, seed
        self._epoch, self._index = 0, 0
        self._cut()

    @property
    def num_targets(self) -> int:
        """Targets of one epoch."""
        return int((self._lengths - 1).sum())

    def draw(self, count: int, model: Any = None) -> list[Tokens]:
        """The next `count` windows; a draw goes over the end of an epoch into the next."""
        examples: list[Tokens] = []
        while len(examples) < count:
            if self._index == len(self._starts):
                self._epoch, self._index = self._epoch + 1, 0
                self._cut()
            start, targets = self._starts[self._index], self._targets[self._index]
            examples.append(self._tokens[start : start + targets + 1])
            self._index += 1
        return examples

    def state(self) -> dict[str, Any]:
        """Epoch and index in it."""
        return {"epoch": self._epoch, "index": self._index}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises FormatError for a state of other data."""
        self._epoch = int(state["epoch"])
        self._cut()
        self._index = int(state["index"])
        if not 0 <= self._index <= len(self._starts):
            raise FormatError(f"the saved position {self._index} is outside the data's {len(self._starts)} windows")

    def _cut(self) -> None:
        rng = np.random.Generator(np.random.PCG64([self._seed, self._epoch]))
        first = rng.integers(1, self._context_length + 1, len(self._lengths))
        starts, targets = cut(self._lengths, first, self._context_length)
        order = rng.permutation(len(starts))
        self._starts, self._targets = starts[order], targets[order]


class Shuffled(Generic[Example]):
    """Examples that are whole as they are, in a new order every epoch."""

    def __init__(self, examples: Sequence[Example], seed: int) -> None:
        assert len(examples), "there is something to draw"
        self._examples, self._seed = examples, seed
        self._epoch, self._index = 0, 0

    def draw(self, count: int, model: Any = None) -> list[Example]:
        """The next `count` examples; a draw goes over the end of an epoch into the next."""
        drawn: list[Example] = []
        while len(drawn) < count:
            if self._index == len(self._examples):
                self._epoch, self._index = self._epoch + 1, 0
            taken = self._order()[self._index : self._index + count - len(drawn)]
            drawn += [self._examples[at] for at in taken]
            self._index += len(taken)
        return drawn

    def state(self) -> dict[str, Any]:
        """Epoch and index in it."""
        return {"epoch": self._epoch, "index": self._index}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises FormatError for a state of other data."""
        self._epoch, self._index = int(state["epoch"]), int(state["index"])
        if not 0 <= self._index <= len(self._examples):
            raise FormatError(f"the saved position {self._index} is outside the data's {len(self._examples)} examples")

    def _order(self) -> list[int]:
        generator = np.random.Generator(np.random.PCG64([self._seed, self._epoch]))
        order: list[int] = generator.permutation(len(self._examples)).tolist()
        return order


def cut(lengths: NDArray[np.int64], first: NDArray[np.int64], context_length: int) -> tuple[NDArray[np.int64], ...]:
    """Start and number of targets of every window of documents that lie one after another.

    lengths: (documents,) tokens each. first: (documents,) targets of a document's first window, 1 .. context_length;
    documents that fit into one window are not cut.
    """
    targets = lengths - 1
    first = np.where(targets <= context_length, targets, first)
    counts = 1 + -(-(targets - first) // context_length)
    documents = np.repeat(np.arange(len(lengths)), counts)
    rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # which window of its document
    offset = np.where(rank == 0, 0, first[documents] + (rank - 1) * context_length)
    size = np.where(rank == 0, first[documents], np.minimum(context_length, targets[documents] - offset))
    return (np.cumsum(lengths) - lengths)[documents] + offset, size


def all_windows(documents: Sequence[Tokens], context_length: int) -> list[Tokens]:
    """Every document cut into non-overlapping windows from its start, in order: for validation."""
    return [
        document[start : start + context_length + 1]
        for document in documents
        for start in range(0, len(document) - 1, context_length)
    ]
