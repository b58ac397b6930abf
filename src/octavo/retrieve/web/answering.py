"""Answers from evidence: one a paragraph, and the best of them by the paper's scorers, over any model with scores.

With a question q, a paragraph p and an answer a: `direct` is p(a|q,p); `rag` sums p(p|q) p(a|q,p') over the paragraphs;
`noisy-channel` is p(q|a,p) p(a|p) / p(q|p); `poe`, a product of experts, is p(a|q,p) p(q|a,p) p(a|p) p(p|q).
Unusual: probabilities of texts are geometric means over their tokens, or the shortest answer would always win; and an
answer with words that its paragraph does not have is no candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from octavo.errors import OctavoError, UnsupportedError
from octavo.generate.lm import LanguageModel, Request, complete
from octavo.metrics.answers import normalised
from octavo.retrieve.web.evidence import Evidence, paragraphs, relevance
from octavo.retrieve.web.fetching import PageCache
from octavo.retrieve.web.searching import SearchProvider

PAGES, PARAGRAPHS, ANSWER_TOKENS = 20, 8, 32
SHOTS: Final = (
    (
        "The Danube rises in the Black Forest of Germany and flows through ten countries into the Black Sea.",
        "Where does the Danube rise?",
        "in the Black Forest of Germany",
    ),
    (
        "Marie Curie won the Nobel Prize in Physics in 1903 and that in Chemistry in 1911.",
        "In which year did Marie Curie win the prize in chemistry?",
        "1911",
    ),
    (
        "Kiwis are flightless birds of New Zealand. Their eggs are a fifth of the weight of the mother.",
        "Which country do kiwis live in?",
        "New Zealand",
    ),
)
"""Evidence, question, answer: what the model is shown before its own."""


@dataclass(frozen=True)
class Candidate:
    """An answer from one paragraph. logs: by name, the mean log-probability of a token: answer (a|q,p), question
    (q|a,p), answer_alone (a|p), question_alone (q|p).
    """

    text: str
    evidence: Evidence
    logs: Mapping[str, float]


@dataclass(frozen=True)
class WebAnswer:
    """text: empty where nothing was found to answer from. evidence: what it rests on, best first in `candidates`.

    unread: pages that could not be had, each with the reason.
    """

    text: str
    evidence: Evidence | None
    score: float
    candidates: tuple[Candidate, ...]
    unread: tuple[str, ...]


def answer_from_web(
    model: LanguageModel,
    question: str,
    search: SearchProvider,
    cache: PageCache,
    *,
    scorer: str = "poe",
    pages: int = PAGES,
    limit: int = PARAGRAPHS,
) -> WebAnswer:
    """Search, read, rank and answer. pages: that are read; limit: paragraphs that are answered from.

    Raises UnsupportedError for a model that does not score texts, OctavoError for a search that fails.
    """
    scored = SCORERS[scorer]
    found, unread = gather(question, search, cache, pages, limit)
    candidates = [_candidate(model, question, evidence) for evidence in found]
    candidates = [candidate for candidate in candidates if _stands_in(candidate)]
    if not candidates:
        return WebAnswer("", None, -math.inf, (), tuple(unread))
    scores = [scored(model, question, candidate, found) for candidate in candidates]
    order = sorted(range(len(candidates)), key=lambda at: -scores[at])
    best = candidates[order[0]]
    return WebAnswer(best.text, best.evidence, scores[order[0]], tuple(candidates[at] for at in order), tuple(unread))


def gather(
    question: str, search: SearchProvider, cache: PageCache, pages: int, limit: int
) -> tuple[list[Evidence], list[str]]:
    """The paragraphs of what a search finds that are nearest to a question, and which pages could not be read."""
    found: list[Evidence] = []
    unread = []
    for result in search.search(question, pages):
        try:
            page = cache.page(result.url)
        except OctavoError as error:
            unread.append(str(error))
            continue
        text = readable(page.text, page.kind)
        found += [
            Evidence(page.url, result.title, page.fetched, start, end, text[start:end])
            for start, end in paragraphs(text)
        ]
    cosines = relevance(question, [evidence.text for evidence in found])
    order = sorted(range(len(found)), key=lambda at: (-cosines[at], at))[:limit]
    whole = sum(cosines[at] for at in order) or 1.0
    return [replace(found[at], share=cosines[at] / whole) for at in order if cosines[at] > 0], unread


def readable(text: str, kind: str) -> str:
    """A page's main text, without menus and scripts. Raises MissingDependencyError where trafilatura is missing."""
    if kind == "text/plain":
        return text
    from octavo.retrieve.documents.formats.html import main_text

    return main_text(text)


def _candidate(model: LanguageModel, question: str, evidence: Evidence) -> Candidate:
    passage = " ".join(evidence.text.split())
    prompt = prompt_of("Evidence", "Question", "Answer", given=(passage, question))
    sampling = replace(model.sampling, temperature=0.0, repetition_penalty=1.0, seed=0)
    asked = Request(_ids(model, prompt), ANSWER_TOKENS, sampling, stop=("\n",))
    said = complete(model, asked).text.strip()
    if not said:
        return Candidate("", evidence, {})
    logs = {
        "answer": log_mean(model, prompt, said),
        "question": log_mean(model, prompt_of("Evidence", "Answer", "Question", given=(passage, said)), question),
        "answer_alone": log_mean(model, prompt_of("Evidence", "Answer", given=(passage,)), said),
        "question_alone": log_mean(model, prompt_of("Evidence", "Question", given=(passage,)), question),
    }
    return Candidate(said, evidence, logs)


def _stands_in(candidate: Candidate) -> bool:
    """Whether an answer has words, and all of them stand in its paragraph: the rest is from elsewhere."""
    said = normalised(candidate.text).split()
    return bool(said) and set(said) <= set(normalised(candidate.evidence.text).split())


def prompt_of(*fields: str, given: Sequence[str]) -> str:
    """A few-shot prompt of these fields in this order, the last one open. given: the others' values."""
    names = ("Evidence", "Question", "Answer")
    shots = ["\n".join(f"{field}: {shot[names.index(field)]}" for field in fields) for shot in SHOTS]
    own = "\n".join(f"{field}: {value}" for field, value in zip(fields, given, strict=False))
    return "\n\n".join([*shots, f"{own}\n{fields[-1]}:"])


def log_mean(model: LanguageModel, prompt: str, said: str) -> float:
    """The mean log-probability of the tokens of what is said after a prompt, those alone."""
    before, whole = _ids(model, prompt), _ids(model, f"{prompt} {said}")
    first = next((at for at, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1]), len(before))
    logs = [log for log in model.score(whole).logprobs[first:] if log is not None]
    return sum(logs) / len(logs)


def _ids(model: LanguageModel, text: str) -> list[int]:
    """Tokens of a text, in which nothing is a control token: pages are data."""
    if model.tokenizer is None:
        raise UnsupportedError(
            f"{model.name} does not show its tokenizer, so it cannot score answers; use a local model"
        )
    return model.tokenizer.encode(text, special=False)


def _direct(model: LanguageModel, question: str, candidate: Candidate, found: Sequence[Evidence]) -> float:
    return candidate.logs["answer"]


def _rag(model: LanguageModel, question: str, candidate: Candidate, found: Sequence[Evidence]) -> float:
    parts = []
    for evidence in found:
        if evidence == candidate.evidence:
            log = candidate.logs["answer"]
        else:
            passage = " ".join(evidence.text.split())
            prompt = prompt_of("Evidence", "Question", "Answer", given=(passage, question))
            log = log_mean(model, prompt, candidate.text)
        parts.append(math.log(evidence.share) + log)
    most = max(parts)
    return most + math.log(sum(math.exp(part - most) for part in parts))


def _noisy_channel(model: LanguageModel, question: str, candidate: Candidate, found: Sequence[Evidence]) -> float:
    logs = candidate.logs
    return logs["question"] + logs["answer_alone"] - logs["question_alone"]


def _poe(model: LanguageModel, question: str, candidate: Candidate, found: Sequence[Evidence]) -> float:
    logs = candidate.logs
    return logs["answer"] + logs["question"] + logs["answer_alone"] + math.log(candidate.evidence.share)


Scorer = Callable[[LanguageModel, str, Candidate, Sequence[Evidence]], float]
SCORERS: Final[Mapping[str, Scorer]] = {"direct": _direct, "rag": _rag, "noisy-channel": _noisy_channel, "poe": _poe}
