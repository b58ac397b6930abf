"""Words of a text for word search: normalised, with Chinese, Japanese and Korean as overlapping pairs of characters.

What is indexed and what is asked go through the same steps here; stemming of English is left to the store. Unusual: the
last character of a run is indexed alone too, so that a query of one character finds it wherever it stands, as the
beginning of a pair or at the end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

ANALYSIS = 1
"""Of these rules; an index made by others is made anew."""

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a an and are as at be been but by can could did do does for from had has have how if in into is it its no not of
        on or such that the their then there these they this those to was were what when where which who whom whose why
        will with would
        """,
    )
)
"""Words too common to tell passages apart: left out of queries that have others. Lucene's list, with question words."""

_CJK = re.compile(
    "[\u3005\u3007\u3040-\u30ff\u3105-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U000323af]+"
)
_WORD = re.compile(r"[^\W_]+")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b")


def indexed(text: str) -> str:
    """A text as it is indexed: its words and pairs of characters, separated by spaces."""
    return " ".join(_tokens(text, last_alone=True))


def query_terms(query: str) -> list[str]:
    """The words of a query, each once, in its order, without stop words unless it has nothing else.

    A single character of Chinese, Japanese or Korean stands for every pair that begins with it.
    """
    terms = list(dict.fromkeys(_tokens(query, last_alone=False)))
    telling = [term for term in terms if term not in STOP_WORDS]
    return telling or terms


def is_lone_character(term: str) -> bool:
    """Whether a query's term is one character of Chinese, Japanese or Korean."""
    return len(term) == 1 and _CJK.fullmatch(term) is not None


def _tokens(text: str, *, last_alone: bool) -> Iterator[str]:
    plain = _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).lower())
    position = 0
    for run in _CJK.finditer(plain):
        yield from _WORD.findall(plain[position : run.start()])
        position = run.end()
        characters = run[0]
        yield from (characters[at : at + 2] for at in range(len(characters) - 1))
        if last_alone or len(characters) == 1:
            yield characters[-1]
    yield from _WORD.findall(plain[position:])
