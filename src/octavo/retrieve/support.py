"""What in a passage supports a sentence: the sentences of the passage that share its words, and whether they suffice.

A rule that any reader can check, and no model: every number and every name of the sentence must stand in the quoted
text, and most of what it says beyond the question. A sentence that says nothing beyond the question is no answer. It
refuses what a passage does not say; it cannot see a negation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from octavo.retrieve import words
from octavo.text.windows import stem

MOST_WORDS = 0.6
"""The share that a quotation must hold of a sentence's telling words, and of those that are not the question's."""
LONGEST_QUOTE = 3
"""Sentences of a passage that are quoted together."""
_SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)\]]*(?=\s|$)|[。！？]+[」』”]?|(?=\n\s*\n)|$)", re.DOTALL)
_PARTICLES = re.compile("[的是了在和與与及什麼么甚嗎吗呢誰谁何哪幾几個个為为有這这那其之也於于而由以被將将曾]")
"""Characters of Chinese that ask or join, and name nothing."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<!^)(?<![.!?:]\s)\b[A-Z][\w'’-]*|`[^`]+`")


@dataclass(frozen=True)
class Quote:
    """Characters of a passage's text that support a sentence. share: of its telling words that they hold."""

    start: int
    end: int
    share: float


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where the sentences of a text are, without the white space between them."""
    for match in _SENTENCE.finditer(text):
        kept = match[0].rstrip()
        if kept:
            yield match.start(), match.start() + len(kept)


def quote(sentence: str, passage: str, asked: frozenset[str] = frozenset()) -> Quote | None:
    """The few neighbouring sentences of a passage that support a sentence best; None where none do.

    asked: the stems of the question that the sentence answers.
    """
    wanted = stems(sentence)
    told = wanted - asked
    if not told:
        return None
    places = list(sentences(passage))
    found = [stems(passage[start:end]) for start, end in places]
    best: tuple[tuple[float, int, int], Quote] | None = None
    for first in range(len(places)):
        held: frozenset[str] = frozenset()
        for last in range(first, min(first + LONGEST_QUOTE, len(places))):
            held |= found[last]
            share, news = len(held & wanted) / len(wanted), len(held & told) / len(told)
            start, end = places[first][0], places[last][1]
            if min(share, news) < MOST_WORDS or not _holds_facts(sentence, passage[start:end]):
                continue
            rank = (share + news - 0.1 * (last - first), -first, -last)  # a further sentence must bring further words
            if best is None or rank > best[0]:
                best = rank, Quote(start, end, share)
    return None if best is None else best[1]


def nearest_sentence(question: str, passage: str) -> Quote | None:
    """The sentence of a passage that speaks most of a question and says more than it; None where none does."""
    asked = stems(question)
    best: Quote | None = None
    for start, end in sentences(passage):
        held = stems(passage[start:end])
        share = len(held & asked) / len(asked) if asked else 0.0
        if held - asked and share > (best.share if best else 0) and _holds_facts(question, passage[start:end]):
            best = Quote(start, end, share)
    return best


def _holds_facts(sentence: str, text: str) -> bool:
    """Whether a text has every number and every name of a sentence."""
    numbers = {number.replace(",", "") for number in _NUMBER.findall(text)}
    if not {number.replace(",", "") for number in _NUMBER.findall(sentence)} <= numbers:
        return False
    return all(stems(name) <= stems(text) for name in _NAME.findall(sentence))


@lru_cache(maxsize=4096)
def stems(text: str) -> frozenset[str]:
    """The telling words of a text: English without the endings of plurals and verbs, Chinese as pairs of characters.

    A pair that a particle is part of tells nothing, nor does a character that stands alone between particles.
    """
    terms = words.query_terms(_PARTICLES.sub(" ", text))
    telling = [term for term in terms if term not in words.STOP_WORDS and not words.is_lone_character(term)]
    return frozenset(stem(term) for term in telling)
