"""Search over a store: by words, by meaning, or by both, fused.

Two ways to fuse: `hybrid` takes each ranking's scores as shares of its best and averages them; `rrf`, reciprocal rank
fusion (Cormack, Clarke and Buettcher 2009), sums 1 / (60 + rank). Scores say more than ranks where one ranking is much
surer than the other: `benchmarks/retrieval.py` measures both, and `hybrid` is the default by its figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from octavo.errors import OctavoError
from octavo.retrieve.chunking.duplicates import find_duplicates
from octavo.retrieve.filters import Filter
from octavo.retrieve.stores.store import Hit, Passage, Store, Vectors
from octavo.text.scripts.chinese import in_both

Mode = Literal["hybrid", "rrf", "words", "vectors"]
DEPTH = 100
"""Passages of each ranking that are joined; 1000 gives the same to the third figure."""
RANK_CONSTANT = 60
_SPARE = 10
MOST_UNKNOWN = 0.25
"""A text with a greater share of tokens that its encoder does not know is searched by words alone."""


class TextEncoder(Protocol):
    """What makes vectors of texts, such as `octavo.generate.embed.Embedder`."""

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage", "plain"] = ...) -> Vectors:
        """(len(texts), dimensions), each of length 1."""
        ...

    def unknown_fraction(self, texts: Sequence[str]) -> float:
        """The share of the texts' tokens that the encoder has no vector for."""
        ...


@dataclass(frozen=True)
class Search:
    """How a store is asked. encoder: the one that made its vectors; None: by words alone. exact: see `Store`."""

    store: Store
    encoder: TextEncoder | None = None
    exact: bool = False

    def find(self, query: str, limit: int = 10, *, mode: Mode | None = None, where: Filter | None = None) -> list[Hit]:
        """The passages that fit a question best, best first.

        mode None: hybrid where there is an encoder that knows the question's words, else by words. where: only in
        documents whose metadata matches. Raises OctavoError for a mode that needs an encoder without one.
        """
        if mode is None:
            mode = "words" if self.encoder is None or not knows(self.encoder, [query]) else "hybrid"
        return self.find_with(None if mode == "words" else self.vector(query), query, limit, mode, where)

    def find_with(
        self, vector: Vectors | None, query: str, limit: int, mode: Mode, where: Filter | None = None
    ) -> list[Hit]:
        """The same with the query's vector already made, as HyDE makes it.

        vector: (dimensions,), None for search by words.
        """
        _check_limit(limit)
        within = None if where is None else matching(self.store, where)
        depth = max(limit, DEPTH) if mode in ("hybrid", "rrf") else limit
        rankings = []
        if mode != "vectors":
            rankings.append(self.store.search_words(in_both(query), depth, within))
        if vector is not None:
            near = self.store.search_vector(vector, depth, within, exact=self.exact)
            rankings.append([hit for hit in near if hit.score > 0])  # those that the encoder does not know have 0
        if len(rankings) == 1:
            return rankings[0]
        return (reciprocal_ranks(rankings) if mode == "rrf" else relative_scores(rankings))[:limit]

    def vector(self, query: str) -> Vectors:
        """(dimensions,) of a question."""
        if self.encoder is None:
            raise OctavoError("there is no encoder, so only search by words can be had", param="mode")
        return np.asarray(self.encoder.embed([query], kind="query")[0], dtype=np.float32)


def knows(encoder: TextEncoder, texts: Sequence[str]) -> bool:
    """Whether an encoder knows enough of the texts' tokens to say what they mean."""
    return encoder.unknown_fraction(texts) <= MOST_UNKNOWN


def matching(store: Store, where: Filter) -> list[str]:
    """The documents whose metadata a filter matches. Each has its own name as `document`, too."""
    return [name for name, listing in store.listing().items() if where.matches({"document": name, **listing.metadata})]


def with_spares(limit: int) -> int:
    """How many passages to find to show so many: some stand in for such as repeat others.

    Raises OctavoError for a limit below 1.
    """
    _check_limit(limit)
    return limit + _SPARE


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise OctavoError(f"the number of passages is {limit}; it must be 1 or more", param="limit")


def without_repeats(hits: Sequence[Hit], limit: int) -> list[Hit]:
    """The first `limit` passages that do not nearly repeat an earlier one, so that copies of a file take one place."""
    repeats = {found.index for found in find_duplicates(hit.passage.text for hit in hits)}
    return [hit for at, hit in enumerate(hits) if at not in repeats][:limit]


def relative_scores(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Rankings fused by the mean of each passage's scores, as shares of the best of their ranking; all are above 0."""
    return _fused(
        (hit.passage, hit.score / ranking[0].score / len(rankings)) for ranking in rankings for hit in ranking
    )


def reciprocal_ranks(rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Rankings fused by the sum of 1 / (60 + rank), ranks from 1."""
    return _fused(
        (hit.passage, 1 / (RANK_CONSTANT + rank)) for ranking in rankings for rank, hit in enumerate(ranking, 1)
    )


def _fused(parts: Iterable[tuple[Passage, float]]) -> list[Hit]:
    """Each passage once, with the sum of its parts, best first, equal ones by their ids."""
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for passage, part in parts:
        passages[passage.id] = passage
        scores[passage.id] = scores.get(passage.id, 0.0) + part
    return [Hit(passages[name], scores[name]) for name in sorted(scores, key=lambda name: (-scores[name], name))]
