"""Evidence: paragraphs of six sentences of the pages that were found, by the cosine of their TF-IDF to the question.

Terms are those of word search (`words.py`); a term weighs (1 + ln tf) ln((n + 1) / df), over the paragraphs at hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.retrieve import words
from octavo.retrieve.chunking.sentences import sentence_ranges

SENTENCES = 6
LONGEST = 4000
"""Characters of a paragraph; what has no full stops is cut."""


@dataclass(frozen=True)
class Evidence:
    """A paragraph of a page, characters start to end of its text. fetched: when the page was. share: p(paragraph |
    question), the cosines of all paragraphs together being 1.
    """

    url: str
    title: str
    fetched: str
    start: int
    end: int
    text: str
    share: float = 0.0


def paragraphs(text: str, sentences: int = SENTENCES) -> list[tuple[int, int]]:
    """Ranges of so many sentences each, one after another, without the white space around them."""
    ranges = sentence_ranges(text)
    found = []
    for at in range(0, len(ranges), sentences):
        start, end = ranges[at][0], ranges[min(at + sentences, len(ranges)) - 1][1]
        for first in range(start, end, LONGEST):
            piece = text[first : min(end, first + LONGEST)]
            if piece.strip():
                found.append((first + len(piece) - len(piece.lstrip()), first + len(piece.rstrip())))
    return found


def relevance(question: str, texts: Sequence[str]) -> list[float]:
    """The cosine of each text's TF-IDF to the question's, 0 to 1."""
    counts = [Counter(words.indexed(text).split()) for text in texts]
    frequency = Counter(term for count in counts for term in count)
    weight = {term: math.log((1 + len(texts)) / found) for term, found in frequency.items()}
    asked = {term: weight[term] for term in words.query_terms(question) if term in weight}
    length = math.sqrt(sum(value**2 for value in asked.values()))
    scores = []
    for count in counts:
        own = math.sqrt(sum((weight[term] * (1 + math.log(number))) ** 2 for term, number in count.items()))
        both = sum(value * weight[term] * (1 + math.log(count[term])) for term, value in asked.items() if term in count)
        scores.append(both / (own * length) if own and length else 0.0)
    return scores
