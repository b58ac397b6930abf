"""What speaks against an answer beside a reader's own scores: a rule for each, which anyone can check.

A question's names and numbers that the text lacks, or that only the answer's sentence lacks; an answer of the wrong
kind (no time for `when`, no amount for `how many`, no name for `who`); a long one. A small reader sees these badly, and
a logistic regression over them and its margin says how likely there is no answer.

Left out with intent: in SQuAD 2.0 a question whose words all stand in the paragraph is likelier to have no answer,
since people who wrote the answerable half were asked to use words of their own. It would gain several points there,
and hold back the plainest answers of real documents.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octavo.text.windows import stem

FEATURES = ("margin", "names", "names_near", "numbers", "numbers_near", "kind", "words")
"""What is weighed, in this order; `margin` is the score of no answer less the span's."""
RIDGE = 2.0
"""Of the weights, over features of variance 1."""
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<!^)(?<![.!?:]\s)\b[A-Z][\w'’-]*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)\]」』]*(?:\s|$)|\n\s*\n|(?<=[。！？])")
_TIME = re.compile(
    r"\d|centur|decade|\bday|month|year|period|\bwar\b|after|before|during|January|February|March|April|May|June|July"
    r"|August|September|October|November|December"
)
_AMOUNT = re.compile(
    r"\d|one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|thousand|million|half|third|quarter|once|twice"
    r"|\ball\b|most|many|few|several|year|day",
    re.IGNORECASE,
)
_SOMEBODY = re.compile(r"[A-Z]|people|\bthey\b|\bmen\b|women|\w+s\b")
_KINDS = (
    (re.compile(r"\b(?:what|which) (?:year|century|decade|date|day|month)\b|\bwhen\b", re.IGNORECASE), _TIME),
    (re.compile(r"\bhow (?:many|much|old|long|far|large|big|high|tall|often)\b|percent", re.IGNORECASE), _AMOUNT),
    (re.compile(r"^\W*who(?:se|m)?\b|\bby who\w*\b", re.IGNORECASE), _SOMEBODY),
)
_MOST = 2
ECHO = 4.0
"""Log-odds against an answer of the question's own words: 18 of SQuAD's 7,119 training answers are such."""


def features(question: str, text: str, start: int, end: int, margin: float) -> list[float]:
    """The values of FEATURES for the answer that is characters start to end of a text."""
    first, last = sentence_around(text, start, end)
    names, numbers = _names(question), _numbers(question)
    lacking = []
    for place in (text, text[first:last]):
        words, figures = stems(place), _numbers(place)
        lacking.append((sum(not name <= words for name in names), len(numbers - figures)))
    (names_far, numbers_far), (names_near, numbers_near) = lacking
    counts = (names_far, names_near, numbers_far, numbers_near)
    return [margin, *(float(min(count, _MOST)) for count in counts), float(_wrong_kind(question, text[start:end])),
            float(len(text[start:end].split()))]  # fmt: skip


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the sentences that characters start to end are in begin and end."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    first = max((place for place in ends if place <= start), default=0)
    last = min((place for place in ends if place >= end), default=len(text))
    return first, last


def stems(text: str) -> frozenset[str]:
    """A text's words without their endings, in lower case."""
    return frozenset(stem(word.lower()) for word in _WORD.findall(text))


def echoes(question: str, answer: str) -> bool:
    """Whether an answer says nothing that the question does not; one that is asked to choose may."""
    return stems(answer) <= stems(question) and re.search(r"\bor\b|還是|还是|或", question) is None


def fit(rows: Sequence[Sequence[float]], lacking: Sequence[bool]) -> tuple[float, ...]:
    """Weights of FEATURES and a constant, of the log-odds that there is no answer.

    rows: (questions, features); lacking: whether a question has no answer. Newton's method with a ridge.
    """
    values, wanted = np.asarray(rows, np.float64), np.asarray(lacking, np.float64)
    mean, spread = values.mean(axis=0), values.std(axis=0)
    spread[spread == 0] = 1
    scaled = np.concatenate(((values - mean) / spread, np.ones((len(values), 1))), axis=1)
    ridge = np.append(np.full(len(mean), RIDGE), 1e-6)
    weights = np.zeros(len(ridge))
    for _ in range(50):
        chance = 1 / (1 + np.exp(-scaled @ weights))
        slope = scaled.T @ (chance - wanted) + ridge * weights
        curvature = (scaled.T * (chance * (1 - chance))) @ scaled + np.diag(ridge)
        weights -= np.linalg.solve(curvature, slope)
    plain: NDArray[np.float64] = weights[:-1] / spread
    return (*(float(weight) for weight in plain), float(weights[-1] - plain @ mean))


def log_odds(weights: Sequence[float], row: Sequence[float]) -> float:
    """How likely there is no answer, as the logarithm of its odds."""
    return sum(weight * value for weight, value in zip(weights, row, strict=False)) + weights[-1]


def _names(question: str) -> list[frozenset[str]]:
    return [stems(name) for name in _NAME.findall(question)]


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)}


def _wrong_kind(question: str, answer: str) -> bool:
    """Whether a question asks for a time, an amount or somebody, and the answer is none."""
    for asks, gives in _KINDS:
        if asks.search(question):
            return gives.search(answer) is None
    return False
