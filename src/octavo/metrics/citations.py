"""How well an answer's citations hold: are the sentences supported, and do the citations support them?

Citation recall is the share of an answer's sentences that its citations support, citation precision the share of the
citations that support their sentence (Gao et al. 2023, arXiv 2305.14627). What support means is the caller's to say: a
judgement by people, an entailment model, or whether the gold answer lies in the cited span.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Supports = Callable[[str, str], bool]
"""(sentence, cited passage): whether the passage shows what the sentence says."""


@dataclass(frozen=True)
class CitedSentence:
    """A sentence of an answer with the texts of the passages that it cites."""

    sentence: str
    cited: Sequence[str]


def citation_precision(answer: Sequence[CitedSentence], supports: Supports) -> float:
    """Supporting citations / citations; 1 where nothing is cited, as nothing is cited wrongly."""
    judged = [supports(said.sentence, passage) for said in answer for passage in said.cited]
    return sum(judged) / len(judged) if judged else 1.0


def citation_recall(answer: Sequence[CitedSentence], supports: Supports) -> float:
    """Sentences that their citations, read together, support / sentences; 1 for an empty answer."""
    judged = [bool(said.cited) and supports(said.sentence, "\n".join(said.cited)) for said in answer]
    return sum(judged) / len(judged) if judged else 1.0


def citation_f1(answer: Sequence[CitedSentence], supports: Supports) -> float:
    """The harmonic mean of citation precision and recall."""
    precision, recall = citation_precision(answer, supports), citation_recall(answer, supports)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
