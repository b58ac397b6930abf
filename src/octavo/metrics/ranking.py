"""How good a ranking is: nDCG, recall, reciprocal rank, average precision, as trec_eval computes them.

A ranking is a sequence of ids, best first. `relevance` maps the judged ids to their grades; an id that is not in it, or
has a grade of 0 or less, is not relevant. Each function scores one query, 0 to 1; without a relevant id it is 0.
Unusual: the gain of nDCG is the grade itself (Jarvelin and Kekalainen 2002), not 2^grade - 1; binary grades agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Ids by falling score; equal scores by falling id, as trec_eval breaks ties."""
    return sorted(scores, key=lambda name: (scores[name], name), reverse=True)


def ndcg(ranking: Sequence[str], relevance: Mapping[str, int], depth: int) -> float:
    """Normalised discounted cumulative gain of the first `depth` ids; the ideal is drawn from all that are judged."""
    ideal = _discounted(sorted(relevance.values(), reverse=True)[:depth])
    return _discounted([relevance.get(name, 0) for name in ranking[:depth]]) / ideal if ideal else 0.0


def recall(ranking: Sequence[str], relevance: Mapping[str, int], depth: int) -> float:
    """The share of the relevant ids that are among the first `depth`."""
    relevant = _relevant(relevance)
    return len(relevant.intersection(ranking[:depth])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], relevance: Mapping[str, int], depth: int | None = None) -> float:
    """1 / the rank of the first relevant id among the first `depth` (None: all). Its mean over queries is MRR."""
    relevant = _relevant(relevance)
    return next((1 / rank for rank, name in enumerate(ranking[:depth], 1) if name in relevant), 0.0)


def average_precision(ranking: Sequence[str], relevance: Mapping[str, int]) -> float:
    """Precision at each relevant id's rank, averaged over all that are relevant. Its mean over queries is MAP."""
    relevant = _relevant(relevance)
    found, total = 0, 0.0
    for rank, name in enumerate(ranking, 1):
        if name in relevant:
            found += 1
            total += found / rank
    return total / len(relevant) if relevant else 0.0


def _relevant(relevance: Mapping[str, int]) -> set[str]:
    return {name for name, grade in relevance.items() if grade > 0}


def _discounted(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1) if grade > 0)
