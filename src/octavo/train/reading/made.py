"""Questions that no person asked: with no answer, made from those that have one, and clozes made from plain sentences.

Three ways to an unanswerable question, after the kinds that Rajpurkar, Jia and Liang 2018 (arXiv 1806.03822) count: a
name or number put in the place of another, a negation, an antonym; a fourth is a text that lacks the answer. Clozes
follow Lewis, Denoyer and Riedel 2019 (arXiv 1906.04980): a sentence without its answer, its words thinned and moved.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from octavo.train.reading.questions import Question

NAME = re.compile(r"(?<!^)\b[A-Z][\w'’-]*(?:\s+(?:of|the|de|and)?\s*[A-Z][\w'’-]*)*")
NUMBER = re.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)\]]*(?=\s|$)|$)", re.DOTALL)
VERBS = re.compile(
    r"\b(is|are|was|were|do|does|did|can|could|has|have|had|will|would|should|may|might)\b", re.IGNORECASE
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")
CHINESE_SENTENCE = re.compile(r"[^。！？；]{8,}[。！？；]?")
_JOINS = "為是在於由與和"
_MARKS = "，。、；：「」《》（）()"
CHINESE_ANSWERS = (
    (re.compile(r"(\d+年(?:\d+月(?:\d+日)?)?)"), ("哪一年",)),
    (re.compile(r"(\d[\d,.]*[^\d\W]{0,2})"), ("多少",)),
    (re.compile(r"[「《〈]([^」》〉]{2,12})[」》〉]"), ("什麼",)),
    (re.compile(rf"(?<=[，、{_JOINS}])([^{_MARKS}\s{_JOINS}的了]{{2,8}})(?=[，。、；{_JOINS}])"),
     ("什麼", "誰", "哪裡", "何者")),
)  # fmt: skip
OPPOSITES = """
first last|most least|largest smallest|before after|above below|more less|higher lower|highest lowest
north south|east west|northern southern|eastern western|early late|earliest latest|increase decrease
increased decreased|old new|oldest newest|high low|large small|start end|started ended|began stopped|begin stop
won lost|win lose|best worst|male female|positive negative|public private|major minor|rich poor|allow forbid
allowed banned|support oppose|supported opposed|include exclude|included excluded|accepted rejected
accept reject|always never|all none|many few|long short|longest shortest|strong weak|strongest weakest
internal external|common rare|easy difficult|easily hardly|fast slow|over under|top bottom|gain lose|gained lost
built destroyed|created destroyed|legal illegal|open closed|opened closed|upper lower|inside outside
maximum minimum|older younger|possible impossible|able unable|known unknown|married divorced|arrived left
agree disagree|agreed disagreed|successful unsuccessful|popular unpopular|important unimportant|formal informal
direct indirect
"""
_OPPOSITE = {
    word: other
    for pair in OPPOSITES.replace("\n", "|").split("|")
    if pair.strip()
    for word, other in (pair.split(), pair.split()[::-1])
}
_ASKING = {
    "number": ("how many", "what", "when", "what year"),
    "name": ("who", "what", "which", "where"),
    "word": ("what",),
}


def unanswerable(question: Question, rng: random.Random) -> Question | None:
    """The question changed so that its text does not answer it; None where no rule applies."""
    ways = [_swapped, _swapped, _opposed, _negated]
    rng.shuffle(ways)
    for way in ways:
        text = way(question, rng)
        if text is not None and text != question.text:
            return replace(question, id=f"{question.id}-made", text=text, golds=())
    return None


def _swapped(question: Question, rng: random.Random) -> str | None:
    """A name or number of the question exchanged for another of its text."""
    for kind in rng.sample((NAME, NUMBER), 2):
        places = list(kind.finditer(question.text))
        if not places:
            continue
        place = rng.choice(places)
        taken = " ".join((question.text, *(text for _, text in question.golds))).lower()
        others = [other[0] for other in kind.finditer(question.context) if other[0].lower() not in taken]
        if others:
            return f"{question.text[: place.start()]}{rng.choice(others)}{question.text[place.end() :]}"
    return None


def _opposed(question: Question, rng: random.Random) -> str | None:
    """A word exchanged for its opposite."""
    places = [place for place in WORD.finditer(question.text) if place[0].lower() in _OPPOSITE]
    if not places:
        return None
    place = rng.choice(places)
    return question.text[: place.start()] + _OPPOSITE[place[0].lower()] + question.text[place.end() :]


def _negated(question: Question, rng: random.Random) -> str | None:
    """Its first verb denied."""
    place = VERBS.search(question.text)
    if place is None or re.search(r"\bnot\b|n't\b|\bnever\b", question.text):
        return None
    if place[0].lower() in ("can", "may", "might") or rng.random() < 0.5:
        words = question.text[place.end() :].split(" ")  # "did the king build": the negation stands before a later word
        at = min(len(words), rng.choice((1, 1, 2, 3)))
        return question.text[: place.end()] + " ".join([*words[:at], "not", *words[at:]])
    return question.text[: place.end()] + "n't" + question.text[place.end() :]


def elsewhere(questions: Sequence[Question]) -> dict[str, list[str]]:
    """For each question with an answer, texts of its article that lack every answer, those most like it first."""
    contexts: dict[str, list[str]] = defaultdict(list)
    for question in questions:
        if question.context not in contexts[question.article]:
            contexts[question.article].append(question.context)
    words = {context: _words(context) for group in contexts.values() for context in group}
    found = {}
    for question in questions:
        if not question.golds:
            continue
        asked = _words(question.text)
        lacking = [
            context
            for context in contexts[question.article]
            if context != question.context and not any(text.lower() in context.lower() for _, text in question.golds)
        ]
        found[question.id] = sorted(lacking, key=lambda context: -len(asked & words[context]))[:8]
    return found


def moved(question: Question, others: Mapping[str, Sequence[str]], rng: random.Random) -> Question | None:
    """The question with a text of its article that does not answer it; the more alike, the likelier."""
    texts = others.get(question.id)
    if not texts:
        return None
    context = texts[min(int(rng.expovariate(0.7)), len(texts) - 1)]
    return replace(question, id=f"{question.id}-moved", context=context, golds=())


def cloze(article: str, context: str, rng: random.Random) -> Question | None:
    """A question made of one of the text's sentences: a name, number or word of it is the answer."""
    if len(CHINESE.findall(context)) > len(context) / 3:
        return _chinese_cloze(article, context, rng)
    sentences = [place for place in SENTENCE.finditer(context) if len(place[0].split()) >= 6]
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    kinds = {"name": NAME, "number": NUMBER, "word": re.compile(r"\b[a-z]{5,}(?: [a-z]{5,})?\b")}
    weights = {"name": 5, "number": 4, "word": 2}
    found = {kind: list(pattern.finditer(sentence[0])) for kind, pattern in kinds.items()}
    present = [kind for kind in found if found[kind]]
    if not present:
        return None
    kind = rng.choices(present, [weights[name] for name in present])[0]
    place = rng.choice(found[kind])
    before = _thinned(sentence[0][: place.start()], rng, last=True)
    after = _thinned(sentence[0][place.end() :], rng, last=False)
    parts = [before, after] if rng.random() < 0.5 else [after, before]
    text = " ".join([rng.choice(_ASKING[kind]), *(part for part in parts if part)]) + "?"
    golds = ((sentence.start() + place.start(), place[0]),)
    return Question("cloze", article, text, context, golds)


def _chinese_cloze(article: str, context: str, rng: random.Random) -> Question | None:
    """The same in Chinese, which has no spaces: a time, a number, a title or a run between marks and particles."""
    sentences = list(CHINESE_SENTENCE.finditer(context))
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    found = [(asking, list(pattern.finditer(sentence[0]))) for pattern, asking in CHINESE_ANSWERS]
    found = [(asking, places) for asking, places in found if places]
    if not found:
        return None
    asking, places = rng.choice(found)
    start, end = rng.choice(places).span(1)
    before = _thinned_characters(sentence[0][:start][-rng.randint(4, 16) :], rng)
    after = _thinned_characters(sentence[0][end:].rstrip("。！？；")[: rng.randint(4, 16)], rng)
    asked = rng.choice(asking)
    text = f"{before}{asked}{after}？" if rng.random() < 0.6 else f"{after}{before}{asked}？"
    return Question("cloze", article, text, context, ((sentence.start() + start, sentence[0][start:end]),))


def _thinned_characters(text: str, rng: random.Random) -> str:
    """The characters next to a gap, most of the marks between them left out."""
    return "".join(character for character in text if character not in "，、「」《》" or rng.random() < 0.4)


def _thinned(text: str, rng: random.Random, *, last: bool) -> str:
    """Some of the words next to a gap, a few of them left out."""
    words = WORD.findall(text)
    reach = rng.randint(3, 9)
    words = words[-reach:] if last else words[:reach]
    return " ".join(word for word in words if rng.random() > 0.3)


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in WORD.findall(text) if len(word) > 3)
