"""How right an answer's text is: SQuAD's exact match and token F1, as the official script of version 2.0 computes them.

An empty answer says that there is none; it is right where the question has no gold answer, and only there.
Source: Rajpurkar, Jia and Liang 2018 (arXiv 1806.03822), evaluate-v2.0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CHARACTER = re.compile("[\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation, then without articles, white space squeezed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def apart(text: str) -> str:
    """Each character of Chinese and Japanese as a word, as DRCD and CMRC 2018 are scored; other words as they are."""
    return _CHARACTER.sub(r" \g<0> ", text)


def unspaced(texts: Sequence[str]) -> bool:
    """Whether most of the letters of some texts are of scripts that put no spaces between words."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return 2 * sum(_CHARACTER.match(letter) is not None for letter in letters) > len(letters)


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 where the normalised answer equals one of the golds, else 0. No golds: there is no answer to give."""
    return max(float(normalised(answer) == normalised(gold)) for gold in _golds(golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """The harmonic mean of precision and recall of the answer's words, for the gold where it is best."""
    return max(_f1(normalised(answer).split(), normalised(gold).split()) for gold in _golds(golds))


@dataclass(frozen=True)
class AnswerScores:
    """Means over questions, in percent. has_answer, no_answer: over the questions of that kind, None without any."""

    count: int
    exact: float
    f1: float
    has_answer_exact: float | None
    has_answer_f1: float | None
    no_answer: float | None


def score_answers(answers: Mapping[str, str], golds: Mapping[str, Sequence[str]]) -> AnswerScores:
    """Score every question of `golds` (its id to its gold answers). A question without an answer counts as empty."""
    rows = [
        (bool(gold), exact_match(answers.get(name, ""), gold), token_f1(answers.get(name, ""), gold))
        for name, gold in golds.items()
    ]
    having = [row for row in rows if row[0]]
    return AnswerScores(
        len(rows),
        _percent([exact for _, exact, _ in rows]) or 0.0,
        _percent([f1 for *_, f1 in rows]) or 0.0,
        _percent([exact for _, exact, _ in having]),
        _percent([f1 for *_, f1 in having]),
        _percent([f1 for has_answer, _, f1 in rows if not has_answer]),
    )


def best_threshold(
    scores: Mapping[str, float], no_answer: Mapping[str, float], golds: Mapping[str, Sequence[str]]
) -> tuple[float, float]:
    """The best mean score in percent that holding answers back can reach, and the threshold that reaches it.

    scores: each question's score where its answer is given. no_answer: how sure the system is that there is none; a
    question whose value is above the threshold is answered with nothing.
    """
    withheld = sum(not gold for gold in golds.values())
    best, current, threshold = float(withheld), float(withheld), 0.0
    names = sorted(no_answer, key=lambda key: no_answer[key])
    for name, following in zip(names, [*names[1:], None], strict=True):
        if golds[name]:
            current += scores[name]
        else:
            current -= 0.0 if scores[name] else 1.0
        tied = following is not None and no_answer[following] == no_answer[name]  # no threshold parts them
        if current > best and not tied:
            best, threshold = current, no_answer[name]
    return 100 * best / len(golds), threshold


def _f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    if not answer or not gold:
        return float(list(answer) == list(gold))
    shared = sum((Counter(answer) & Counter(gold)).values())
    return 2 * shared / (len(answer) + len(gold))


def _golds(golds: Sequence[str]) -> Sequence[str]:
    """The golds that have words; an empty one where there are none."""
    return [gold for gold in golds if normalised(gold)] or [""]


def _percent(values: Sequence[float]) -> float | None:
    return 100 * sum(values) / len(values) if values else None
