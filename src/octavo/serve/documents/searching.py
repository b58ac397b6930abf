"""Search over one vector store or several, as if they were one: all their passages are ranked together.

A score is the mean of a passage's scores by words and by meaning, each as a share of the best one's. Where there is a
reader, it ranks the first ones anew, as it does for `octavo ask`, and a score is a share of the best of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.retrieve.filters import Comparison, Filter
from octavo.retrieve.reader import Reader, rerank
from octavo.retrieve.search import (
    DEPTH,
    Mode,
    Search,
    TextEncoder,
    knows,
    relative_scores,
    with_spares,
    without_repeats,
)
from octavo.retrieve.stores.store import Hit, Store, Vectors

Object = dict[str, Any]


@dataclass(frozen=True)
class Shelf:
    """A vector store as it is searched. names: the documents to look in, None: all."""

    id: str
    index: Store
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Found:
    """A passage with the vector store that it is from."""

    store: str
    hit: Hit


def find(
    shelves: Sequence[Shelf],
    queries: Sequence[str],
    encoder: TextEncoder | None,
    limit: int,
    threshold: float,
    reader: Reader | None = None,
) -> list[Found]:
    """The passages that fit any of the queries best, best first. threshold: the least score, 0 to 1. Blocking."""
    homes: dict[str, str] = {}
    best: dict[str, Hit] = {}
    for query in queries:
        vector = _vector(query, encoder)
        rankings = [_ranked(shelves, query, None, max(limit, DEPTH), homes)]
        if vector is not None:
            rankings.append(_ranked(shelves, query, vector, max(limit, DEPTH), homes))
        ranked = rerank(reader, query, relative_scores([ranking for ranking in rankings if ranking]))
        for hit in ranked:
            scaled = Hit(hit.passage, min(1.0, hit.score / max(1.0, ranked[0].score)))
            known = best.get(hit.passage.id)
            if known is None or known.score < scaled.score:
                best[hit.passage.id] = scaled
    ordered = sorted(best.values(), key=lambda hit: (-hit.score, hit.passage.id))
    kept = without_repeats([hit for hit in ordered[: with_spares(limit)] if hit.score >= threshold], limit)
    return [Found(homes[hit.passage.id], hit) for hit in kept]


def _vector(query: str, encoder: TextEncoder | None) -> Vectors | None:
    if encoder is None or not knows(encoder, [query]):
        return None
    vector: Vectors = encoder.embed([query], kind="query")[0]
    return vector


def _ranked(
    shelves: Sequence[Shelf], query: str, vector: Vectors | None, depth: int, homes: dict[str, str]
) -> list[Hit]:
    """One ranking over all; a file that is in several vector stores counts once. homes: where each passage is from."""
    found: dict[str, Hit] = {}
    for shelf in shelves:
        if vector is not None and shelf.index.space is None:
            continue
        where: Filter | None = None if shelf.names is None else Comparison("in", "document", shelf.names)
        mode: Mode = "words" if vector is None else "vectors"
        for hit in Search(shelf.index).find_with(vector, query, depth, mode, where):
            name = hit.passage.id
            if name not in found or found[name].score < hit.score:
                found[name] = hit
                homes.setdefault(name, shelf.id)
    return sorted(found.values(), key=lambda hit: (-hit.score, hit.passage.id))[:depth]
